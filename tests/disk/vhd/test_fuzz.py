"""Whatever a VHD holds, only errors that a user can read come out, in bounded memory."""

from __future__ import annotations

import tempfile
import tracemalloc
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.disk.reader import FileReader
from stillframe.disk.vhd import open_vhd
from stillframe.errors import StillframeError
from tests.disk.vhd.shapes import MIB, make_child, make_vhd, resealed

SIZE = 1 * MIB
BLOCK = 64 << 10
MEMORY_LIMIT = 64 * MIB

# Numbers that parsers stumble over, in the widths that VHD uses.
edge = st.sampled_from([0, 1, 511, 512, 513, 4096, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF])
wide = st.sampled_from([0, 1, 512, 1 << 32, 1 << 40, 2040 << 30, 1 << 62, 1 << 63, (1 << 64) - 1])
value = st.one_of(
    edge.map(lambda number: number.to_bytes(4)),
    wide.map(lambda number: number.to_bytes(8)),
    st.binary(min_size=1, max_size=8),
)
# Mostly fields of footer, header, table and locators (from either end), sometimes anywhere.
offset = st.one_of(st.integers(0, 3600), st.integers(-512, -1), st.integers(0, SIZE))
mutation = st.tuples(offset, value)


@cache
def originals() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writes = [(70_000, b"x" * 70_000), (900_000, b"y" * 5000)]
        base = make_vhd(folder / "base.vhd", writes, size_bytes=SIZE, block_bytes=BLOCK)
        child = make_child(folder / "child.vhd", base, [(71_680, b"z" * 512)], block_bytes=BLOCK)
        fixed = make_vhd(folder / "fixed.vhd", writes, size_bytes=SIZE, kind="fixed")
        return {each.stem: each.read_bytes() for each in (base, child, fixed)}


def exercise(path: Path) -> None:
    """Open, list and read around: in pieces, since a mutation may make the disk huge."""
    reader = FileReader(path)
    try:
        disk = open_vhd(reader, path=path)
    except StillframeError:
        reader.close()
        raise
    try:
        size = disk.geometry.size_bytes
        sum(extent.length_bytes for _, extent in zip(range(5000), disk.extents(), strict=False))
        for start in {0, BLOCK + 100, size // 2, max(0, size - 100_000)}:
            disk.read_into(start, memoryview(bytearray(min(100_000, size - start))))
    finally:
        disk.close()


def mutated(data: bytes, mutations: list[tuple[int, bytes]], cut: int, seal: bool) -> bytes:
    changed = bytearray(data)
    for where, new in mutations:
        changed[where : where + len(new) if where + len(new) else None] = new
    if cut:
        del changed[-cut:]
    return bytes(resealed(changed) if seal else changed)


def run(kind: str, mutations: list[tuple[int, bytes]], cut: int, seal: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base.vhd").write_bytes(originals()["base"])
        path = folder / f"{kind}.vhd"
        path.write_bytes(mutated(originals()[kind], mutations, cut, seal))
        tracemalloc.start()
        try:
            with suppress(StillframeError):
                exercise(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= MEMORY_LIMIT


arguments = (
    st.sampled_from(["base", "child", "fixed"]),
    st.lists(mutation, min_size=1, max_size=6),
    st.sampled_from([0, 0, 0, 1, 511, 512, 70_000]),
    st.booleans(),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(*arguments)
def test_mutated_disks_fail_by_name_or_not_at_all(
    kind: str, mutations: list[tuple[int, bytes]], cut: int, seal: bool
) -> None:
    run(kind, mutations, cut, seal)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(*arguments)
def test_mutated_disks_for_long(kind: str, mutations: list[tuple[int, bytes]], cut: int, seal: bool) -> None:
    run(kind, mutations, cut, seal)


def test_the_exercise_sees_sound_disks_as_sound(tmp_path: Path) -> None:
    for kind, data in originals().items():
        (tmp_path / f"{kind}.vhd").write_bytes(data)
    for kind in originals():
        exercise(tmp_path / f"{kind}.vhd")


def test_the_largest_table_stays_within_memory(tmp_path: Path) -> None:
    """4 Mi blocks of 512 KiB, all of them there: the most that a table may hold."""
    path = make_vhd(tmp_path / "full.vhd", size_bytes=2040 << 30, block_bytes=512 << 10)
    blocks = (2040 << 30) // (512 << 10)
    data = path.read_bytes()
    table = b"".join((40_000 + 1025 * number).to_bytes(4) for number in range(blocks))
    with path.open("r+b") as file:
        file.seek(1536)
        file.write(table)
        file.seek((40_000 + 1025 * blocks) * 512)
        file.write(data[-512:])
    del table, data
    tracemalloc.start()
    try:
        exercise(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY_LIMIT
