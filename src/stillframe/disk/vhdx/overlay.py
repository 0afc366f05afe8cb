"""Replaying the log in memory: the file as it would be after replay, without touching it.

Pages of 4 KiB and zeroed ranges lie over the file. A page is remembered by where its data sector lies in the
log, not by its contents, so the memory is small whatever the log holds; and ranges stay ranges, since one
zero descriptor may name 2^63 bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from stillframe.disk.ranges import fill_zeros
from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.vhdx.errors import LogError, UnsupportedVhdxError
from stillframe.disk.vhdx.header import Header
from stillframe.disk.vhdx.layout import FIRST_LOGGED_BYTES, MAX_FILE_BYTES
from stillframe.disk.vhdx.log import (
    DATA_SIGNATURE,
    SECTOR_BYTES,
    LogArea,
    LogEntry,
    active_sequence,
    descriptors,
    zero_lengths,
)
from stillframe.disk.vhdx.spans import SpanSet

MAX_REPLAYED_DESCRIPTORS = 1 << 15  # ours; a log of 1 MiB holds at most 32,642


@dataclass(frozen=True, slots=True)
class LoggedPage:
    """The new contents of one 4 KiB page: both ends from its descriptor, the middle from its data sector."""

    data_sector_bytes: int  # where in the file the data sector lies
    leading: bytes
    trailing: bytes


class ReplayedReader:
    """A file seen as if its log had been replayed."""

    def __init__(
        self, base: RandomReader, size_bytes: int, pages: dict[int, LoggedPage], zeros: SpanSet
    ) -> None:
        self._base = base
        self._size_bytes = size_bytes
        self._pages = pages
        self._page_offsets = sorted(pages)
        self._zeros = zeros

    @property
    def name(self) -> str:
        return self._base.name

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        end_bytes = offset_bytes + len(buffer)
        if end_bytes > self._size_bytes:
            raise LogError(
                self.name, end_bytes, f"behind the file's {self._size_bytes} bytes after log replay"
            )
        in_file = max(0, min(len(buffer), self._base.size_bytes - offset_bytes))
        self._base.read_into(offset_bytes, buffer[:in_file])
        fill_zeros(buffer[in_file:])
        for start, end in self._zeros.within(offset_bytes, end_bytes):
            fill_zeros(buffer[start - offset_bytes : end - offset_bytes])
        self._lay_pages(offset_bytes, buffer)

    def close(self) -> None:
        self._base.close()

    def _lay_pages(self, offset_bytes: int, buffer: memoryview) -> None:
        end_bytes = offset_bytes + len(buffer)
        first = bisect_left(self._page_offsets, offset_bytes - SECTOR_BYTES + 1)
        for index in range(first, len(self._page_offsets)):
            page = self._page_offsets[index]
            if page >= end_bytes:
                return
            start, end = max(page, offset_bytes), min(page + SECTOR_BYTES, end_bytes)
            buffer[start - offset_bytes : end - offset_bytes] = self._page(page)[start - page : end - page]

    def _page(self, offset_bytes: int) -> bytes:
        page = self._pages[offset_bytes]
        middle = read_bytes(self._base, page.data_sector_bytes + 8, SECTOR_BYTES - 12)
        return page.leading + middle + page.trailing


@dataclass(frozen=True, slots=True)
class Replay:
    """What the log held: how many entries and descriptors took part; none in a clean file."""

    entries: int = 0
    descriptors: int = 0


def replayed(reader: RandomReader, header: Header) -> tuple[RandomReader, Replay]:
    """The file after its log, and what was replayed. A clean file comes back as it is.

    Raises:
        LogError: the log must be replayed and cannot be, or the file was cut since it was written.
        UnsupportedVhdxError: more descriptors than we allow.
    """
    if header.log_is_empty:
        return reader, Replay()
    area = LogArea(reader, header)
    sequence = active_sequence(area)
    head = sequence[-1]
    if head.flushed_file_bytes > reader.size_bytes:
        raise LogError(
            reader.name,
            reader.size_bytes,
            f"the file ends here, but the log knows that it had {head.flushed_file_bytes} bytes",
        )
    count = sum(entry.descriptor_count for entry in sequence)
    if count > MAX_REPLAYED_DESCRIPTORS:
        raise UnsupportedVhdxError(
            f"{reader.name}: {count} log descriptors to replay; we allow {MAX_REPLAYED_DESCRIPTORS}"
        )
    overlay = _Overlay(area, max(reader.size_bytes, head.last_file_bytes))
    for entry in reversed(sequence):
        overlay.lay_under(entry)
    return overlay.over(reader), Replay(len(sequence), count)


class _Overlay:
    """Collects what the log says, newest first: the first word on a page is the last one written."""

    def __init__(self, area: LogArea, size_bytes: int) -> None:
        self._area = area
        self._pages: dict[int, LoggedPage] = {}
        self._zeros = SpanSet()
        self._size_bytes = self._bounded(size_bytes)

    def over(self, reader: RandomReader) -> ReplayedReader:
        return ReplayedReader(reader, self._size_bytes, self._pages, self._zeros)

    def lay_under(self, entry: LogEntry) -> None:
        data_position = entry.position_bytes + entry.length_bytes
        for sector in reversed(range(entry.descriptor_sectors)):
            found = descriptors(self._area, entry, sector)
            lengths = zero_lengths(found)
            for index in reversed(range(len(found))):
                offset_bytes = int(found["offset"][index])
                if found["signature"][index] != DATA_SIGNATURE:
                    self._lay_zeros(offset_bytes, int(lengths[index]))
                    continue
                data_position -= SECTOR_BYTES
                ends = found["leading"][index].tobytes(), found["trailing"][index].tobytes()
                self._lay_page(offset_bytes, LoggedPage(self._area.file_offset(data_position), *ends))

    def _lay_zeros(self, offset_bytes: int, length_bytes: int) -> None:
        self._check_target(offset_bytes, length_bytes)
        self._zeros.add(offset_bytes, offset_bytes + length_bytes)

    def _lay_page(self, offset_bytes: int, page: LoggedPage) -> None:
        self._check_target(offset_bytes, SECTOR_BYTES)
        if not self._zeros.covers(offset_bytes):
            self._pages.setdefault(offset_bytes, page)

    def _check_target(self, offset_bytes: int, length_bytes: int) -> None:
        end_bytes = offset_bytes + length_bytes
        area = self._area
        if offset_bytes < FIRST_LOGGED_BYTES:
            raise LogError(area.name, area.offset_bytes, f"an entry writes to the headers, at {offset_bytes}")
        if offset_bytes < area.offset_bytes + area.length_bytes and end_bytes > area.offset_bytes:
            raise LogError(
                area.name, area.offset_bytes, f"an entry writes to the log itself, at {offset_bytes}"
            )
        self._size_bytes = max(self._size_bytes, self._bounded(end_bytes))

    def _bounded(self, size_bytes: int) -> int:
        if size_bytes > MAX_FILE_BYTES:
            raise LogError(
                self._area.name, self._area.offset_bytes, f"the log makes a file of {size_bytes} bytes"
            )
        return size_bytes
