import os
import tempfile
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
import pyvhdi
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.disk.still import Extent, Geometry
from stillframe.disk.vhd import Parent, create_vhd
from stillframe.errors import StillframeError, UnsupportedError, UsageError
from tests.disk.disks import check_extents, contents
from tests.disk.vhd.shapes import MIB, make_child, make_vhd, open_file

SECTOR = 512
SECTORS = 300  # of the model's disks: blocks of 4 KiB, the last one partial
SIZE = SECTORS * SECTOR

Step = tuple[int, int, int]  # first sector, sectors, fill (0: told as zero, not written)


def disjoint(steps: list[Step]) -> list[Step]:
    """Leave out what overlaps an earlier step: targets promise nothing for it."""
    taken: set[int] = set()
    kept = []
    for first, count, fill in steps:
        sectors = set(range(first, min(first + count, SECTORS)))
        if sectors and not sectors & taken:
            taken |= sectors
            kept.append((first, len(sectors), fill))
    return kept


steps_strategy = st.lists(
    st.tuples(st.integers(0, SECTORS - 1), st.integers(1, 40), st.integers(0, 255)), max_size=12
).map(disjoint)


def apply(target: object, model: bytearray, steps: list[Step]) -> None:
    for first, count, fill in steps:
        start, length = first * SECTOR, count * SECTOR
        model[start : start + length] = bytes([fill]) * length
        if fill:
            target.write(start, bytes([fill]) * length)  # type: ignore[attr-defined]
        else:
            target.zero(Extent(start, length))  # type: ignore[attr-defined]
    target.finish()  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@given(steps_strategy, st.sampled_from(["fixed", "dynamic"]))
def test_what_is_written_in_any_order_is_read_back(
    steps: list[Step], kind: Literal["fixed", "dynamic"]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, model = Path(folder, "disk.vhd"), bytearray(SIZE)
        blocks = 4096 if kind == "dynamic" else None
        apply(create_vhd(path, Geometry(SIZE), kind=kind, block_size_bytes=blocks), model, steps)
        disk = open_file(path)
        assert contents(disk) == model
        check_extents(disk)
        disk.close()


@settings(max_examples=60, deadline=None)
@given(steps_strategy, steps_strategy, steps_strategy)
def test_a_chain_of_three_is_what_was_written_last(
    base: list[Step], middle: list[Step], top: list[Step]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = bytearray(SIZE)
        path = Path(folder, "0.vhd")
        apply(create_vhd(path, Geometry(SIZE), block_size_bytes=4096), model, base)
        for number, steps in enumerate((middle, top), start=1):
            parent = Parent(open_file(path), path)
            path = Path(folder, f"{number}.vhd")
            blocks = 4096 << number  # a child need not have its parent's block size
            target = create_vhd(
                path, Geometry(SIZE), kind="differencing", block_size_bytes=blocks, parent=parent
            )
            apply(target, model, steps)
            parent.disk.close()
        disk = open_file(path)
        assert contents(disk) == model
        check_extents(disk)
        piece = bytearray(1500)
        disk.read_into(700, memoryview(piece))
        assert piece == model[700:2200]
        disk.close()


def library_reads(path: Path, parent: Path | None = None) -> bytes:
    disk, below = pyvhdi.file(), pyvhdi.file()
    disk.open(str(path))
    if parent:
        below.open(str(parent))
        assert disk.get_parent_filename() == parent.name
        disk.set_parent(below)
    data: bytes = disk.read_buffer_at_offset(disk.get_media_size(), 0)
    disk.close()
    return data


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_libvhdi_reads_the_same(tmp_path: Path, kind: Literal["fixed", "dynamic"]) -> None:
    writes = [(7 * MIB - 9, os.urandom(70_000)), (100, b"begin"), (9 * MIB + 500, b"end")]
    path = make_vhd(tmp_path / "disk.vhd", writes, kind=kind, size_bytes=9 * MIB + 1024)
    assert library_reads(path) == contents(open_file(path))


def test_libvhdi_reads_the_same_of_a_child(tmp_path: Path) -> None:
    base = make_vhd(tmp_path / "base.vhd", [(0, os.urandom(5 * MIB))], size_bytes=6 * MIB)
    # In whole 4 KiB: where a byte of the bitmap is only partly set, libvhdi reads the rest as zeros.
    writes = [(4096 * number, os.urandom(4096)) for number in (700, 3, 4, 511, 512, 1535)]
    child = make_child(tmp_path / "child.vhd", base, writes)
    assert library_reads(child, base) == contents(open_file(child))


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    base = make_vhd(tmp_path / "base.vhd", [(0, b"B" * MIB)], size_bytes=MIB, block_bytes=64 << 10)
    parent = Parent(open_file(base), base)
    path = tmp_path / "child.vhd"
    target = create_vhd(path, Geometry(MIB), kind="differencing", parent=parent, block_size_bytes=64 << 10)
    with ThreadPoolExecutor(8) as pool:
        # One sector a call, so that many threads update the same bytes of the bitmaps.
        writes = [pool.submit(target.write, at, b"C" * 512) for at in range(0, MIB, 1024)]
        for each in writes:
            each.result()
    target.finish()
    assert contents(open_file(path)) == (b"C" * 512 + b"B" * 512) * 1024


def test_nothing_appears_before_finish_and_nothing_stays_after_abort(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    target = create_vhd(path, Geometry(4 * MIB))
    target.write(0, b"data")
    assert not path.exists()
    target.abort()
    assert list(tmp_path.iterdir()) == []


def test_abort_after_finish_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    target = create_vhd(path, Geometry(4 * MIB))
    target.finish()
    target.abort()
    assert [each.name for each in tmp_path.iterdir()] == ["disk.vhd"]


def test_equal_writes_make_equal_files_when_asked(tmp_path: Path) -> None:
    made = []
    for name in "ab":
        target = create_vhd(tmp_path / name, Geometry(8 * MIB), deterministic=True)
        target.write(5 * MIB, b"data")
        target.finish()
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert open_file(make_vhd(tmp_path / "c")).unique_id != open_file(make_vhd(tmp_path / "d")).unique_id


def test_the_id_may_be_given(tmp_path: Path) -> None:
    wanted = uuid.uuid4()
    create_vhd(tmp_path / "disk.vhd", Geometry(MIB), disk_id=wanted).finish()
    assert open_file(tmp_path / "disk.vhd").disk_id == str(wanted)


def test_a_disk_of_2040_gib_takes_little_memory_and_less_disk(tmp_path: Path) -> None:
    size = 2040 << 30
    tracemalloc.start()
    try:
        path = make_vhd(tmp_path / "huge.vhd", [(size - 4, b"last"), (0, b"first")], size_bytes=size)
        disk = open_file(path)
        found = list(disk.extents())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [extent.length_bytes for extent in found] == [2 * MIB, size - 4 * MIB, 2 * MIB]
    assert peak < 32 * MIB
    assert path.stat().st_blocks * 512 < 8 * MIB


def test_data_lies_at_multiples_of_4_kib(tmp_path: Path) -> None:
    path = make_vhd(tmp_path / "disk.vhd", [(0, b"marker" * 700)])
    assert path.read_bytes().index(b"marker") % 4096 == 0


@pytest.mark.parametrize(
    ("geometry", "options", "error", "told"),
    [
        (Geometry(MIB, 4096, 4096), {}, UnsupportedError, "sectors of 4096"),
        (Geometry((2040 << 30) + 512), {}, UnsupportedError, "at most 2040 GiB"),
        (Geometry(MIB + 1), {}, UsageError, "whole number of sectors"),
        (Geometry(0), {}, UsageError, "whole number of sectors"),
        (Geometry(MIB), {"block_size_bytes": 3 * MIB}, UsageError, "power of two"),
        (Geometry(MIB), {"block_size_bytes": 1024}, UsageError, "power of two"),
        (Geometry(1 << 40), {"block_size_bytes": 4096}, UsageError, "too small"),
        (Geometry(MIB), {"kind": "fixed", "block_size_bytes": MIB}, UsageError, "no blocks"),
        (Geometry(MIB), {"kind": "differencing"}, UsageError, "parent"),
    ],
)
def test_impossible_shapes_are_refused(
    tmp_path: Path, geometry: Geometry, options: dict[str, object], error: type[StillframeError], told: str
) -> None:
    with pytest.raises(error, match=told):
        create_vhd(tmp_path / "disk.vhd", geometry, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_half_sectors_of_a_child_and_writes_outside_are_refused(tmp_path: Path) -> None:
    base = make_vhd(tmp_path / "base.vhd")
    parent = Parent(open_file(base), base)
    target = create_vhd(tmp_path / "c.vhd", Geometry(4 * MIB), kind="differencing", parent=parent)
    with pytest.raises(ValueError, match="whole sectors"):
        target.write(0, b"x")
    with pytest.raises(ValueError, match="leaves the disk"):
        target.write(4 * MIB, bytes(512))
    target.abort()
