"""The log: its entries, and the sequence of them that must be replayed ([MS-VHDX] 2.3).

Whatever is torn or left over from an earlier use is simply not an entry; it ends a sequence and is no error
by itself. Two entries that pass the structural checks never overlap (each sector of an entry begins with a
signature of its own kind), so checking all of them costs one pass over the log, whatever the file claims.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

import numpy as np
import numpy.typing as npt
from google_crc32c import extend as _extend_crc32c

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.vhdx.errors import LogError
from stillframe.disk.vhdx.header import Header
from stillframe.disk.vhdx.layout import CHECKSUM, KIB, round_up

SECTOR_BYTES = 4 * KIB
_PIECE_BYTES = 256 * KIB

ENTRY_HEADER = struct.Struct("<4sIIIQI4x16sQQ")  # [MS-VHDX] 2.3.1.1
ENTRY_SIGNATURE = b"loge"

DESCRIPTOR = np.dtype(  # [MS-VHDX] 2.3.1.2 (zero) and 2.3.1.3 (data); they share their shape
    [("signature", "V4"), ("trailing", "V4"), ("leading", "V8"), ("offset", "<u8"), ("sequence", "<u8")]
)
ZERO_SIGNATURE = np.void(b"zero")
DATA_SIGNATURE = np.void(b"desc")
DescriptorArray = npt.NDArray[np.void]

_DATA_SECTOR_SIGNATURE = b"data"  # [MS-VHDX] 2.3.1.4
_HALF = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A whole, valid entry. Positions are relative to the start of the log."""

    position_bytes: int
    length_bytes: int
    checksum: int
    tail_bytes: int
    sequence: int
    descriptor_count: int
    flushed_file_bytes: int  # size the file had at least when the entry was written
    last_file_bytes: int  # size that holds everything allocated at that time

    @property
    def descriptor_sectors(self) -> int:
        header_and_descriptors = ENTRY_HEADER.size + self.descriptor_count * DESCRIPTOR.itemsize
        return round_up(header_and_descriptors, SECTOR_BYTES) // SECTOR_BYTES

    @property
    def data_sectors(self) -> int:
        return self.length_bytes // SECTOR_BYTES - self.descriptor_sectors


class LogArea:
    """The circular area that holds the log, by sectors."""

    def __init__(self, reader: RandomReader, header: Header) -> None:
        self.name = reader.name
        self.offset_bytes = header.log_offset_bytes
        self.length_bytes = header.log_length_bytes
        self.log_id = header.log_id
        self._reader = reader
        self._piece = lru_cache(maxsize=4)(self._read_piece)

    def file_offset(self, position_bytes: int) -> int:
        return self.offset_bytes + position_bytes % self.length_bytes

    def sector(self, position_bytes: int) -> bytes:
        """The sector at a position, which may lie beyond the end: it wraps."""
        index, within = divmod(position_bytes % self.length_bytes, _PIECE_BYTES)
        return self._piece(index)[within : within + SECTOR_BYTES]

    def entry_positions(self) -> Iterator[int]:
        """Where a sector begins as an entry does."""
        for index in range(self.length_bytes // _PIECE_BYTES):
            sectors = np.frombuffer(self._piece(index), np.dtype("V4"))[:: SECTOR_BYTES // 4]
            for found in np.flatnonzero(sectors == np.void(ENTRY_SIGNATURE)):
                yield index * _PIECE_BYTES + int(found) * SECTOR_BYTES

    def _read_piece(self, index: int) -> bytes:
        return read_bytes(self._reader, self.offset_bytes + index * _PIECE_BYTES, _PIECE_BYTES)


def active_sequence(area: LogArea) -> list[LogEntry]:
    """The entries to replay, oldest first: from the tail of the newest valid sequence to its head.

    Raises:
        LogError: there is no valid sequence, although the header says that there must be one.
    """
    entries = {at: entry for at in area.entry_positions() if (entry := read_entry(area, at))}
    followers = {after.position_bytes for entry in entries.values() if (after := _next(area, entries, entry))}
    best: list[LogEntry] = []
    for entry in entries.values():
        if entry.position_bytes in followers:
            continue  # only the first entry of a run starts one
        needed = _from_tail(_run(area, entries, entry))
        if needed and (not best or needed[-1].sequence > best[-1].sequence):
            best = needed
    if not best:
        raise LogError(area.name, area.offset_bytes, "the log must be replayed, but holds no valid sequence")
    return best


def read_entry(area: LogArea, position_bytes: int) -> LogEntry | None:
    """The entry that begins at a position, or None if none does (torn, stale or never one)."""
    entry = _entry_header(area, position_bytes)
    if entry and _descriptors_hold(area, entry) and _data_holds(area, entry) and _checksum_holds(area, entry):
        return entry
    return None


def descriptors(area: LogArea, entry: LogEntry, sector: int) -> DescriptorArray:
    """The descriptors in one of the entry's leading sectors; the first is shared with the entry's header."""
    skipped = ENTRY_HEADER.size // DESCRIPTOR.itemsize
    per_sector = SECTOR_BYTES // DESCRIPTOR.itemsize
    first = max(sector * per_sector - skipped, 0)
    count = min((sector + 1) * per_sector - skipped, entry.descriptor_count) - first
    offset_bytes = ENTRY_HEADER.size if sector == 0 else 0
    contents = area.sector(entry.position_bytes + sector * SECTOR_BYTES)
    return np.frombuffer(contents, DESCRIPTOR, count, offset_bytes)


def _entry_header(area: LogArea, position_bytes: int) -> LogEntry | None:
    fields = ENTRY_HEADER.unpack_from(area.sector(position_bytes))
    signature, checksum, length, tail, sequence, count, log_id, flushed, last = fields
    if signature != ENTRY_SIGNATURE or UUID(bytes_le=log_id) != area.log_id or sequence == 0:
        return None
    if length == 0 or length % SECTOR_BYTES or length > area.length_bytes:
        return None
    if tail % SECTOR_BYTES or tail >= area.length_bytes:
        return None
    entry = LogEntry(position_bytes, length, checksum, tail, sequence, count, flushed, last)
    return entry if entry.data_sectors >= 0 else None


def _descriptors_hold(area: LogArea, entry: LogEntry) -> bool:
    data_descriptors = 0
    for sector in range(entry.descriptor_sectors):
        found = descriptors(area, entry, sector)
        is_data = found["signature"] == DATA_SIGNATURE
        is_zero = found["signature"] == ZERO_SIGNATURE
        # In a zero descriptor the second field of 8 bytes is its length, and aligned as the offset is.
        unaligned = (found["offset"] % SECTOR_BYTES != 0) | (
            is_zero & (zero_lengths(found) % SECTOR_BYTES != 0)
        )
        if not (is_data | is_zero).all() or (found["sequence"] != entry.sequence).any() or unaligned.any():
            return False
        data_descriptors += int(np.count_nonzero(is_data))
    return data_descriptors == entry.data_sectors


def zero_lengths(found: DescriptorArray) -> npt.NDArray[np.uint64]:
    """The length in bytes that each descriptor names if it is a zero descriptor."""
    return np.ascontiguousarray(found["leading"]).view("<u8")


def _data_holds(area: LogArea, entry: LogEntry) -> bool:
    high, low = _HALF.pack(entry.sequence >> 32), _HALF.pack(entry.sequence & 0xFFFFFFFF)
    begin = _DATA_SECTOR_SIGNATURE + high
    first = entry.position_bytes + entry.descriptor_sectors * SECTOR_BYTES
    positions = range(first, entry.position_bytes + entry.length_bytes, SECTOR_BYTES)
    return all((data := area.sector(at)).startswith(begin) and data.endswith(low) for at in positions)


def _checksum_holds(area: LogArea, entry: LogEntry) -> bool:
    first = area.sector(entry.position_bytes)
    value = _extend_crc32c(0, first[: CHECKSUM.start] + bytes(4) + first[CHECKSUM.stop :])
    for at in range(SECTOR_BYTES, entry.length_bytes, SECTOR_BYTES):
        value = _extend_crc32c(value, area.sector(entry.position_bytes + at))
    return bool(value == entry.checksum)


def _next(area: LogArea, entries: dict[int, LogEntry], entry: LogEntry) -> LogEntry | None:
    after = entries.get((entry.position_bytes + entry.length_bytes) % area.length_bytes)
    return after if after and after.sequence == entry.sequence + 1 else None


def _run(area: LogArea, entries: dict[int, LogEntry], entry: LogEntry | None) -> list[LogEntry]:
    run = []
    while entry:
        run.append(entry)
        entry = _next(area, entries, entry)
    return run


def _from_tail(run: list[LogEntry]) -> list[LogEntry]:
    """What the head still needs; earlier entries were applied already and may be stale. Empty: not valid."""
    tail_bytes = run[-1].tail_bytes
    for index, entry in enumerate(run):
        if entry.position_bytes == tail_bytes:
            return run[index:]
    return []
