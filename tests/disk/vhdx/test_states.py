"""Every block state, with and without a parent; what extents and reads make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillframe.disk.vhdx import open_vhdx
from stillframe.disk.vhdx.errors import BlockMapError
from tests.disk.vhdx.builder import BLOCKS_AT, DATA_WRITE_ID, MIB, DiskBuilder, partial, present
from tests.disk.vhdx.reading import check_extents, kinds, open_file, open_memory, read

SECTOR = 512
RATIO = 4096  # payload blocks per chunk, at blocks of 1 MiB and sectors of 512 bytes
STALE = BLOCKS_AT + 3 * MIB  # an offset left behind in a state that has none
LINKAGE = {"parent_linkage": f"{{{DATA_WRITE_ID}}}", "relative_path": ".\\parent.vhdx"}


def filled(value: int) -> bytes:
    return bytes([value]) * MIB


def test_states_without_a_parent() -> None:
    builder = DiskBuilder(
        entries={0: 0, 1: STALE | 1, 2: 2, 3: STALE | 3, 4: present(BLOCKS_AT), 5: present(BLOCKS_AT + MIB)},
        pieces=((BLOCKS_AT, filled(1)), (BLOCKS_AT + MIB, filled(2)), (STALE, filled(9))),
    )
    disk = open_memory(builder.reader())
    assert kinds(list(disk.extents())) == [
        ("unmapped", 0, 2), ("zero", 2, 1), ("unmapped", 3, 1), ("data", 4, 2), ("unmapped", 6, 2)
    ]  # fmt: skip
    assert read(disk) == bytes(4 * MIB) + filled(1) + filled(2) + bytes(2 * MIB)
    check_extents(disk)


def test_states_with_a_parent(tmp_path: Path) -> None:
    """0 looks at the parent; 1, 2 and 3 never do; 7 asks the sector bitmap, bit by bit from the lowest."""
    DiskBuilder(
        entries={index: present(BLOCKS_AT + index * MIB) for index in range(6)},
        pieces=((BLOCKS_AT, b"".join(filled(16 + index) for index in range(6))),),
    ).write(tmp_path / "parent.vhdx")
    bitmap, block = BLOCKS_AT, BLOCKS_AT + MIB
    bits = bytearray(MIB)
    bits[5 * 256] = 0b0000_0110  # sectors 1 and 2 of block 5
    bits[0] = 0xFF  # of a block that is not partially present: means nothing
    path = DiskBuilder(
        parent=LINKAGE,
        entries={
            1: 1,
            2: 2,
            3: STALE | 3,
            4: present(block),
            5: partial(block + MIB),
            RATIO: present(bitmap),
        },
        pieces=((bitmap, bytes(bits)), (block, filled(1)), (block + MIB, filled(2))),
    ).write(tmp_path / "child.vhdx")
    disk = open_file(path)
    mixed = filled(21)[:SECTOR] + filled(2)[: 2 * SECTOR] + filled(21)[3 * SECTOR :]
    assert read(disk) == filled(16) + bytes(3 * MIB) + filled(1) + mixed + bytes(2 * MIB)
    own = [(each.kind.value, each.offset_bytes, each.length_bytes) for each in disk.own_extents()]
    assert own == [
        ("unmapped", MIB, MIB), ("zero", 2 * MIB, MIB), ("unmapped", 3 * MIB, MIB),
        ("data", 4 * MIB, MIB), ("data", 5 * MIB + SECTOR, 2 * SECTOR),
    ]  # fmt: skip
    check_extents(disk)
    assert read(disk, 5 * MIB + 100, 3 * SECTOR) == mixed[100 : 100 + 3 * SECTOR]
    disk.close()


def test_second_chunk_has_its_own_bitmap(tmp_path: Path) -> None:
    """Blocks behind 4 GiB: the payload index skips the first bitmap's entry."""
    size = (RATIO + 2) * MIB
    DiskBuilder(disk_bytes=size).write(tmp_path / "parent.vhdx")
    bitmap, block = BLOCKS_AT, BLOCKS_AT + MIB
    bits = bytearray(MIB)
    bits[256] = 1  # first sector of the chunk's second block
    path = DiskBuilder(
        disk_bytes=size,
        parent=LINKAGE,
        entries={RATIO + 2: partial(block), 2 * RATIO + 1: present(bitmap)},
        pieces=((bitmap, bytes(bits)), (block, filled(1))),
    ).write(tmp_path / "child.vhdx")
    disk = open_file(path)
    assert read(disk, (RATIO + 1) * MIB, 2 * SECTOR) == filled(1)[:SECTOR] + bytes(SECTOR)


def test_partial_blocks_on_both_sides_of_a_chunk_border(tmp_path: Path) -> None:
    """Neighbours on the disk and in the file, but each with its own bitmap."""
    size = (RATIO + 1) * MIB
    DiskBuilder(disk_bytes=size).write(tmp_path / "parent.vhdx")
    bitmaps, blocks = BLOCKS_AT, BLOCKS_AT + 2 * MIB
    bits = bytes([0b10]).rjust(MIB - 255, b"\0").ljust(MIB, b"\0"), bytes([0b01]).ljust(MIB, b"\0")
    path = DiskBuilder(
        disk_bytes=size,
        parent=LINKAGE,
        entries={
            RATIO - 1: partial(blocks),
            RATIO: present(bitmaps + MIB),
            RATIO + 1: partial(blocks + MIB),
            2 * RATIO + 1: present(bitmaps),
        },
        pieces=((bitmaps, bits[1] + bits[0]), (blocks, filled(1)), (blocks + MIB, filled(2))),
    ).write(tmp_path / "child.vhdx")
    first = bytes(SECTOR) + filled(1)[:SECTOR] + bytes(MIB - 2 * SECTOR)
    second = filled(2)[:SECTOR] + bytes(MIB - SECTOR)
    assert read(open_file(path), (RATIO - 1) * MIB) == first + second


def test_bitmap_entries_of_a_disk_without_parent_are_ignored() -> None:
    """QEMU left garbage there until 2023."""
    size = (RATIO + 1) * MIB
    builder = DiskBuilder(disk_bytes=size, entries={RATIO: 0x12345, RATIO + 1: present(BLOCKS_AT)})
    disk = open_memory(builder.with_(pieces=((BLOCKS_AT, filled(1)),)).reader())
    assert read(disk, RATIO * MIB, MIB) == filled(1)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_neighbours_in_the_file_are_one_read(order: list[int]) -> None:
    builder = DiskBuilder(
        entries={block: present(BLOCKS_AT + slot * MIB) for block, slot in enumerate(order)}
    )
    reader = builder.reader()
    disk = open_memory(reader)
    read(disk, 0, 3 * MIB)  # the maps are cached from here on
    reader.reads.clear()
    read(disk, 100, 3 * MIB - 200)
    assert len(reader.reads) == (1 if order == [0, 1, 2] else 3)


def test_the_unseen_part_of_the_last_block_may_be_missing() -> None:
    builder = DiskBuilder(
        disk_bytes=2 * MIB + SECTOR,
        block_bytes=2 * MIB,
        entries={1: present(BLOCKS_AT)},
        pieces=((BLOCKS_AT, filled(1)),),
        file_bytes=BLOCKS_AT + SECTOR,
    )
    disk = open_memory(builder.reader())
    assert read(disk, 2 * MIB) == filled(1)[:SECTOR]
    with pytest.raises(BlockMapError, match="outside the file"):
        open_memory(builder.with_(file_bytes=BLOCKS_AT + SECTOR - 1).reader())


def test_sectors_of_4096_bytes(tmp_path: Path) -> None:
    ratio = 32768
    DiskBuilder(logical=4096).write(tmp_path / "parent.vhdx")
    bits = bytearray(MIB)
    bits[0] = 0b10
    path = DiskBuilder(
        logical=4096,
        parent=LINKAGE,
        entries={0: partial(BLOCKS_AT + MIB), ratio: present(BLOCKS_AT)},
        pieces=((BLOCKS_AT, bytes(bits)), (BLOCKS_AT + MIB, filled(1))),
    ).write(tmp_path / "child.vhdx")
    assert read(open_file(path), 0, 3 * 4096) == bytes(4096) + filled(1)[:4096] + bytes(4096)


def test_reads_outside_the_disk_are_refused() -> None:
    disk = open_memory(DiskBuilder().reader())
    for offset, length in ((8 * MIB, 1), (-1, 1), (0, 8 * MIB + 1)):
        with pytest.raises(ValueError, match="leaves the disk"):
            disk.read_into(offset, memoryview(bytearray(length)))
    disk.read_into(8 * MIB, memoryview(bytearray()))


def test_ownership_of_the_reader() -> None:
    """A disk closes its reader; a failed opening leaves it to the caller."""
    good, bad = DiskBuilder().reader(), DiskBuilder().reader((0, b"x"))
    open_vhdx(good, path=None).close()
    assert good.closed
    with pytest.raises(Exception, match="not a VHDX"):
        open_vhdx(bad, path=None)
    assert not bad.closed
