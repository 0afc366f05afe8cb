"""The writer against a model: any writes, in any order, from several threads, in every shape of disk."""

from __future__ import annotations

import os
import tempfile
import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.disk.staged import CannotWriteError
from stillframe.disk.still import DiskTarget, Extent, ExtentKind, Geometry
from stillframe.disk.vhdx import DiskKind, VhdxDisk, create_vhdx
from stillframe.errors import UsageError
from tests.disk.vhdx.reading import check_extents, close_all, kinds, open_file, read

MIB = 1 << 20
SECTOR = 512


@dataclass(frozen=True)
class Change:
    """Sectors written with one byte's value, or stated to be zero."""

    first: int
    sectors: int
    value: int
    stated: bool = False

    def apply(self, target: DiskTarget, model: bytearray, sector: int) -> None:
        offset, length = self.first * sector, self.sectors * sector
        offset, end = min(offset, len(model)), min(offset + length, len(model))
        model[offset:end] = bytes([self.value]) * (end - offset)
        if self.stated:
            target.zero(Extent(offset, end - offset, ExtentKind.ZERO))
        else:
            target.write(offset, bytes(model[offset:end]))


def changes(sectors: int, longest: int) -> st.SearchStrategy[list[Change]]:
    where = st.one_of(st.integers(0, sectors - 1), st.sampled_from([0, sectors // 2, sectors - 1]))
    length = st.one_of(st.integers(1, longest), st.just(sectors))
    written = st.builds(Change, where, length, st.integers(0, 2))
    stated = st.builds(Change, where, length, st.just(0), st.just(True))
    return st.lists(st.one_of(written, stated), max_size=10)


@dataclass(frozen=True)
class Shape:
    size_bytes: int
    block_bytes: int = MIB
    sector_bytes: int = SECTOR

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.size_bytes, self.sector_bytes, 4096)

    @property
    def sectors(self) -> int:
        return self.size_bytes // self.sector_bytes


SHAPES = [
    Shape(3 * MIB + 3 * SECTOR),
    Shape(4 * MIB, sector_bytes=4096),
    Shape(5 * MIB - SECTOR, 2 * MIB),
    Shape(SECTOR),
    Shape(2 * MIB, 256 * MIB),
    Shape(3 * MIB, 32 * MIB, 4096),
]


def make(path: Path, shape: Shape, todo: Sequence[Change], model: bytearray, **options: object) -> VhdxDisk:
    target = create_vhdx(path, shape.geometry, block_size_bytes=shape.block_bytes, **options)  # type: ignore[arg-type]
    for change in todo:
        change.apply(target, model, shape.sector_bytes)
    target.finish()
    return open_file(path)


@settings(max_examples=50, deadline=None)
@given(
    data=st.data(),
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(["dynamic", "fixed"]),
    det=st.booleans(),
)
def test_reads_back_what_was_written(data: st.DataObject, shape: Shape, kind: str, det: bool) -> None:
    todo = data.draw(changes(shape.sectors, 2 * MIB // shape.sector_bytes))
    model = bytearray(shape.size_bytes)
    with tempfile.TemporaryDirectory() as folder:
        disk = make(Path(folder) / "disk.vhdx", shape, todo, model, kind=kind, deterministic=det)
        assert read(disk) == model
        assert disk.info.kind == kind
        assert disk.geometry == shape.geometry
        check_extents(disk)
        close_all()


@settings(max_examples=30, deadline=None)
@given(data=st.data(), shape=st.sampled_from(SHAPES[:4]), det=st.booleans())
def test_chain_of_three_against_a_model(data: st.DataObject, shape: Shape, det: bool) -> None:
    """Children of children; each level's blocks may be half a block, zero, whole or absent."""
    model = bytearray(shape.size_bytes)
    with tempfile.TemporaryDirectory() as folder:
        disk: VhdxDisk | None = None
        for level in range(3):
            todo = data.draw(changes(shape.sectors, MIB // shape.sector_bytes), label=f"level {level}")
            path = Path(folder) / f"{level}.vhdx"
            before = bytes(model)
            kind = DiskKind.DIFFERENCING if disk else DiskKind.DYNAMIC
            child = make(path, shape, todo, model, kind=kind, parent=disk, deterministic=det)
            assert read(child) == model
            check_extents(child)
            check_own_extents(child, before, bytes(model))
            disk = child
        assert disk is not None
        assert len(disk.info.chain) == 2
        middle = data.draw(st.integers(0, shape.size_bytes - 1))
        assert read(disk, middle) == model[middle:]
        close_all()


def check_own_extents(child: VhdxDisk, before: bytes, after: bytes) -> None:
    """Every byte that differs from the parent lies in what the child says it holds."""
    position = 0
    for extent in [*child.own_extents(), Extent(len(after), 0)]:
        assert before[position : extent.offset_bytes] == after[position : extent.offset_bytes]
        position = extent.end_bytes


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=st.sampled_from(SHAPES[:4]), child=st.booleans())
def test_same_contents_give_the_same_bytes(data: st.DataObject, shape: Shape, child: bool) -> None:
    """Written in one order and by pieces, or at once: the file depends on the contents alone."""
    todo = data.draw(changes(shape.sectors, MIB // shape.sector_bytes))
    model = bytearray(shape.size_bytes)
    touched: set[int] = set()
    with tempfile.TemporaryDirectory() as folder:
        base = make(Path(folder) / "base.vhdx", shape, [Change(0, 9, 7)], bytearray(shape.size_bytes))
        options = {"kind": "differencing", "parent": base} if child else {}
        first = Path(folder) / "first.vhdx"
        make(first, shape, todo, model, deterministic=True, **options)
        for change in todo:
            touched.update(range(change.first, min(change.first + change.sectors, shape.sectors)))
        second = Path(folder) / "second.vhdx"
        again = [Change(at, 1, model[at * shape.sector_bytes]) for at in sorted(touched, reverse=True)]
        make(second, shape, by_runs(again), model, deterministic=True, **options)
        assert first.read_bytes() == second.read_bytes()
        close_all()


def by_runs(sectors: list[Change]) -> list[Change]:
    """Descending single sectors joined to at most 256, so that no example takes thousands of writes."""
    runs: list[Change] = []
    for each in sectors:
        last = runs[-1] if runs else None
        if last and each.first == last.first - 1 and each.value == last.value and last.sectors < 256:
            runs[-1] = Change(each.first, last.sectors + 1, each.value)
        else:
            runs.append(each)
    return runs


def test_other_contents_get_other_ids(tmp_path: Path) -> None:
    ids = set()
    for value in (1, 2):
        path = tmp_path / f"{value}.vhdx"
        disk = make(
            path, SHAPES[0], [Change(0, 1, value)], bytearray(SHAPES[0].size_bytes), deterministic=True
        )
        ids |= {disk.info.data_write_guid, disk.info.file_write_guid, disk.info.disk_id}
    assert len(ids) == 6


def test_several_threads(tmp_path: Path) -> None:
    """Each writes every fourth piece of every block, smaller than a block and a bitmap's byte."""
    shape, threads, piece = Shape(16 * MIB, 4 * MIB), 4, 3 * SECTOR
    base = make(tmp_path / "base.vhdx", shape, [], bytearray(shape.size_bytes))
    target = create_vhdx(
        tmp_path / "child.vhdx",
        shape.geometry,
        kind="differencing",
        block_size_bytes=shape.block_bytes,
        parent=base,
    )
    model = bytearray(os.urandom(shape.size_bytes))

    def work(number: int) -> None:
        for at in range(number * piece, shape.size_bytes, threads * piece):
            target.write(at, memoryview(model)[at : at + piece])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    target.finish()
    disk = open_file(tmp_path / "child.vhdx")
    assert read(disk) == model
    assert kinds(list(disk.own_extents())) == [("data", 0, 16)], "blocks that became whole need no bitmap"


def test_several_threads_read(tmp_path: Path) -> None:
    shape = Shape(8 * MIB)
    model = bytearray(shape.size_bytes)
    todo = [Change(at * 2048, 1000, at + 1) for at in range(8)]
    disk = make(tmp_path / "disk.vhdx", shape, todo, model)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for step in range(200):
            at = (seed * 7919 + step * 104729) % (shape.size_bytes - 70_000)
            if read(disk, at, 70_000) != model[at : at + 70_000]:
                wrong.append(at)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_stays_sparse(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.vhdx"
    target = create_vhdx(path, Geometry(1 << 40), kind=kind)
    target.zero(Extent(0, 1 << 40, ExtentKind.ZERO))
    target.write(1 << 39, b"x" * 4096)
    target.finish()
    assert on_disk(path) < 4 * MIB
    assert path.stat().st_size < (1 << 40) + (1 << 27) if kind == "fixed" else 64 * MIB


def test_zeros_need_no_blocks(tmp_path: Path) -> None:
    shape = Shape(4 * MIB)
    disk = make(tmp_path / "disk.vhdx", shape, [Change(0, shape.sectors, 0)], bytearray(shape.size_bytes))
    assert kinds(list(disk.extents())) == [("unmapped", 0, 4)]


def test_zeros_in_a_child_hide_the_parent(tmp_path: Path) -> None:
    shape = Shape(4 * MIB)
    model = bytearray(shape.size_bytes)
    base = make(tmp_path / "base.vhdx", shape, [Change(0, shape.sectors, 1)], model)
    todo = [Change(0, 3 * 2048, 0, stated=True), Change(0, 1, 0), Change(3 * 2048, 2, 0)]
    child = make(tmp_path / "child.vhdx", shape, todo, model, kind="differencing", parent=base)
    assert read(child) == model
    assert [(each.kind.value, each.length_bytes) for each in child.own_extents()] == [
        ("zero", 3 * MIB),
        ("data", 2 * SECTOR),
    ]


def test_zeros_over_a_huge_child(tmp_path: Path) -> None:
    """Tens of thousands of absent blocks are stated to be zero without touching each."""
    size = 1 << 40
    base = make(tmp_path / "base.vhdx", Shape(size), [], bytearray(8 * MIB))
    target = create_vhdx(
        tmp_path / "child.vhdx", Geometry(size), kind="differencing", block_size_bytes=MIB, parent=base
    )
    target.write(1 << 39, b"x" * 512)
    target.zero(Extent(512, size - 1024, ExtentKind.ZERO))
    target.finish()
    own = list(open_file(tmp_path / "child.vhdx").own_extents())
    assert (own[0].offset_bytes, own[-1].end_bytes) == (512, size - 512)
    assert not any(read(open_file(tmp_path / "child.vhdx"), 1 << 39, 512))


def test_child_finds_its_parent_by_relative_path(tmp_path: Path) -> None:
    (tmp_path / "parents").mkdir()
    shape = Shape(MIB)
    base = make(tmp_path / "base.vhdx", shape, [Change(0, 1, 1)], bytearray(MIB))
    path = tmp_path / "child.vhdx"
    child = make(path, shape, [], bytearray(MIB), kind="differencing", parent=base)
    assert child.info.parent_locator is not None
    assert child.info.parent_locator.relative_path == ".\\base.vhdx"
    assert child.disk_id == base.disk_id
    os.rename(tmp_path / "base.vhdx", tmp_path / "parents" / "base.vhdx")
    moved = make(
        tmp_path / "moved.vhdx",
        shape,
        [],
        bytearray(MIB),
        kind="differencing",
        parent=base,
        parent_path=tmp_path / "parents" / "base.vhdx",
    )
    assert moved.info.parent_locator is not None
    assert moved.info.parent_locator.relative_path == ".\\parents\\base.vhdx"


def test_ids(tmp_path: Path) -> None:
    names = count()

    def new(**options: object) -> VhdxDisk:
        path = tmp_path / f"{next(names)}.vhdx"
        return make(path, Shape(MIB), [], bytearray(MIB), **options)

    wanted = UUID("12345678-1234-1234-1234-123456789abc")
    assert new(disk_id=wanted).disk_id == str(wanted)
    one, two = new(), new()
    assert one.disk_id != two.disk_id
    assert one.info.data_write_guid != two.info.data_write_guid
    one, two = new(deterministic=True), new(deterministic=True)
    assert (one.disk_id, one.info.data_write_guid) == (two.disk_id, two.info.data_write_guid)


def test_nothing_is_visible_before_finish(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    target = create_vhdx(path, Geometry(MIB))
    target.write(0, b"x" * 512)
    assert not path.exists()
    (unfinished,) = tmp_path.iterdir()
    assert not unfinished.read_bytes().startswith(b"vhdxfile"), "a half-made file must not pass for a disk"
    target.abort()
    assert list(tmp_path.iterdir()) == []


def test_abort_after_finish_is_harmless(tmp_path: Path) -> None:
    target = create_vhdx(tmp_path / "disk.vhdx", Geometry(MIB))
    target.finish()
    target.abort()
    assert [each.name for each in tmp_path.iterdir()] == ["disk.vhdx"]


def test_headers_come_after_everything_else_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash before the second fsync leaves no valid signature in front of missing data."""
    events: list[str] = []
    real_write, real_fsync = os.pwrite, os.fsync

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        events.append("head" if offset < 192 << 10 else "body")
        return real_write(descriptor, data, offset)

    def fsync(descriptor: int) -> None:
        events.append("sync")
        real_fsync(descriptor)

    target = create_vhdx(tmp_path / "disk.vhdx", Geometry(4 * MIB))
    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    target.write(0, b"x" * 512)
    target.finish()
    synced = events.index("sync")
    assert "head" not in events[:synced]
    assert events[synced + 1 :] == ["head", "head", "head", "sync", "sync"]  # the file, then its folder


def test_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    target = create_vhdx(path, Geometry(MIB))
    path.write_bytes(b"precious")
    with pytest.raises(CannotWriteError):
        target.finish()
    with pytest.raises(UsageError, match="exists already"):
        create_vhdx(path, Geometry(MIB))
    target.abort()
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("block_bytes", [MIB, 256 * MIB])
def test_memory_does_not_grow_with_the_block(tmp_path: Path, block_bytes: int) -> None:
    piece = os.urandom(MIB)
    target = create_vhdx(
        tmp_path / "disk.vhdx", Geometry(1 << 40), block_size_bytes=block_bytes, deterministic=True
    )
    tracemalloc.start()
    try:
        for number in range(40):
            target.write((number * 7919 * MIB) % (1 << 40), piece)
        target.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


def test_the_unaligned_is_written_where_there_is_no_parent(tmp_path: Path) -> None:
    target = create_vhdx(tmp_path / "disk.vhdx", Geometry(4 * MIB), block_size_bytes=MIB)
    target.write(MIB - 3, b"abcdef")
    target.zero(Extent(MIB + 1, 1, ExtentKind.ZERO))
    target.finish()
    assert read(open_file(tmp_path / "disk.vhdx"), MIB - 3, 6) == b"abcd\0f"


def test_what_cannot_be_made(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhdx"
    base = make(tmp_path / "base.vhdx", Shape(MIB), [], bytearray(MIB))
    bad: list[tuple[Geometry, dict[str, object]]] = [
        (Geometry(MIB, 520, 520), {}),
        (Geometry(100), {}),
        (Geometry(0), {}),
        (Geometry((64 << 40) + 512), {}),
        (Geometry(MIB), {"block_size_bytes": 3 * MIB}),
        (Geometry(MIB), {"block_size_bytes": 512 * 1024}),
        (Geometry(MIB), {"kind": "thick"}),
        (Geometry(MIB), {"kind": "differencing"}),
        (Geometry(MIB), {"parent": base}),
        (Geometry(MIB, 4096, 4096), {"parent": base, "kind": "differencing"}),
    ]
    for geometry, options in bad:
        with pytest.raises(UsageError):
            create_vhdx(path, geometry, **options)  # type: ignore[arg-type]
    assert [each.name for each in tmp_path.iterdir()] == ["base.vhdx"]


def test_a_child_takes_whole_sectors_only(tmp_path: Path) -> None:
    base = make(tmp_path / "base.vhdx", Shape(MIB), [], bytearray(MIB))
    target = create_vhdx(tmp_path / "child.vhdx", Geometry(MIB), kind="differencing", parent=base)
    with pytest.raises(ValueError, match="whole sectors"):
        target.write(1, b"x" * 512)
    with pytest.raises(ValueError, match="leaves the disk"):
        target.write(MIB, b"x" * 512)
    target.abort()
