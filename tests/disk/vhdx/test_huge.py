"""Disks of 64 TiB, and files that claim to be: never more than 64 MiB of memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google_crc32c import value

from stillframe.disk.vhdx.errors import BlockMapError, LogError, UnsupportedVhdxError
from stillframe.disk.vhdx.header import MAX_LOG_BYTES
from stillframe.errors import StillframeError
from tests.disk.vhdx import builder as by_hand
from tests.disk.vhdx.builder import BAT_AT, LOG_ID, MIB, DiskBuilder, EntryFields, HeaderFields, Zero, present
from tests.disk.vhdx.reading import kinds, open_file, open_memory, read
from tests.disk.vhdx.sources import MemoryReader

TIB = 1 << 40
BOUND = 64 * MIB
RATIO = 4096
BAT_BYTES = 513 * MIB
BLOCKS_AT = BAT_AT + BAT_BYTES
HUGE = DiskBuilder(disk_bytes=64 * TIB, bat_bytes=BAT_BYTES, file_bytes=BLOCKS_AT + 16 * MIB)


@contextmanager
def bounded_memory(bound: int = BOUND) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < bound
    finally:
        tracemalloc.stop()


def index(block: int) -> int:
    return block + block // RATIO


def test_64_tib_in_blocks_of_1_mib(tmp_path: Path) -> None:
    """67 million entries, opened, checked and listed."""
    last = 64 * TIB // MIB - 1
    entries = {0: present(BLOCKS_AT), index(last // 2): 2, index(last): present(BLOCKS_AT + MIB)}
    builder = HUGE.with_(entries=entries, pieces=((BLOCKS_AT + MIB, b"the end"),))
    path = builder.write(tmp_path / "huge.vhdx")
    with bounded_memory():
        disk = open_file(path)
        assert kinds(list(disk.extents())) == [
            ("data", 0, 1),
            ("unmapped", 1, last // 2 - 1),
            ("zero", last // 2, 1),
            ("unmapped", last // 2 + 1, last - last // 2 - 1),
            ("data", last, 1),
        ]
        assert read(disk, last * MIB, 7) == b"the end"


class FullBat(MemoryReader):
    """A BAT in which every entry is present, made when it is read."""

    def __init__(self, base: MemoryReader, entries: int, first_mib: int) -> None:
        super().__init__(base.size_bytes, base.pieces)
        self._entries, self._first_mib = entries, first_mib

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        super().read_into(offset_bytes, buffer)
        first = (offset_bytes - BAT_AT) // 8
        for at in range(max(first, 0), min(first + len(buffer) // 8, self._entries)):
            entry = present((self._first_mib + at) * MIB)
            buffer[(at - first) * 8 : (at - first + 1) * 8] = entry.to_bytes(8, "little")


def test_full_disk_has_one_extent() -> None:
    blocks = 100_000
    builder = DiskBuilder(disk_bytes=blocks * MIB, bat_bytes=MIB, file_bytes=(200_000) * MIB)
    with bounded_memory():
        disk = open_memory(FullBat(builder.reader(), 8 * MIB, 4))
        assert kinds(list(disk.extents())) == [("data", 0, blocks)]


def test_blocks_that_share_a_place_at_the_far_end() -> None:
    builder = HUGE.with_(
        block_bytes=256 * MIB,
        bat_bytes=16 * MIB,
        file_bytes=100 * TIB,
        entries={0: present(99 * TIB), 16 * 17 + 3: present(99 * TIB + 255 * MIB)},
    )
    with bounded_memory(), pytest.raises(BlockMapError, match="shares its place"):
        open_memory(builder.reader())


LOG_AT = 1 << 30


class FullLog(MemoryReader):
    """A log at 1 GiB in which every sector is an entry, made when it is read."""

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        super().read_into(offset_bytes, buffer)
        if offset_bytes >= LOG_AT:
            for at in range(0, len(buffer), 4096):
                buffer[at : at + 4096] = empty_entry((offset_bytes + at - LOG_AT) // 4096)


@pytest.mark.parametrize("length", [16 * MIB, pytest.param(MAX_LOG_BYTES, marks=pytest.mark.soak)])
def test_a_log_full_of_entries(length: int) -> None:
    """Entries of one sector each, all in one sequence: the most that there can be."""
    header = HeaderFields(log_id=LOG_ID, log_length=length, log_offset=LOG_AT)
    base = DiskBuilder(header=header, file_bytes=LOG_AT + length).reader()
    with bounded_memory(BOUND if length == MAX_LOG_BYTES else 8 * MIB):
        assert open_memory(FullLog(base.size_bytes, base.pieces)).info.log_entries == length // 4096


def empty_entry(number: int) -> bytes:
    """An empty entry that needs all before it; sealed by the fast library, for there are many."""
    raw = bytearray(TEMPLATE)
    raw[16:24] = (number + 1).to_bytes(8, "little")
    raw[4:8] = bytes(4)
    raw[4:8] = value(bytes(raw)).to_bytes(4, "little")
    return bytes(raw)


TEMPLATE = EntryFields(0, 1).encode()


def test_a_storm_of_zero_descriptors() -> None:
    zeros = (Zero(16 * MIB, 0),) * 32_700
    first = EntryFields(0, 1, zeros)
    second = EntryFields(first.length, 2, zeros, tail=0)
    header = HeaderFields(log_id=LOG_ID, log_length=4 * MIB, log_offset=20 * MIB)
    pieces = tuple((at + 19 * MIB, piece) for at, piece in by_hand.log_area(first, second, length=4 * MIB))
    builder = DiskBuilder(file_bytes=32 * MIB, header=header, pieces=pieces)
    with bounded_memory(), pytest.raises(UnsupportedVhdxError, match="65400 log descriptors"):
        open_memory(builder.reader())


def test_one_descriptor_names_half_the_address_space() -> None:
    builder = by_hand.dirty(DiskBuilder(), EntryFields(0, 1, (Zero(4 * MIB, 1 << 63),)))
    with bounded_memory(), pytest.raises(LogError):
        open_memory(builder.reader())


def test_a_locator_that_overlaps_itself() -> None:
    """256 pairs that all name the same 64 KiB would decode to 32 MiB."""
    pairs = struct.pack("<IIHH", 4096, 4096, 0xFFFE, 0xFFFE) * 256
    item = (by_hand.VHDX_PARENT.bytes_le + struct.pack("<HH", 0, 256) + pairs).ljust(128 * 1024, b"a")
    builder = DiskBuilder(parameter_flags=2, extra_items=((by_hand.LOCATOR, 4, item),))
    with bounded_memory(16 * MIB), pytest.raises(StillframeError, match="overlap"):
        open_memory(builder.reader())
