"""FAT12, FAT16, FAT32 and exFAT through libfsfat.

Times are read from the directory entries themselves, whose offset the library gives as a file's identifier:
releases of the library up to 20260826 give every time one month too late. Layouts: Microsoft's FAT32 File
System Specification 1.03, page 23, and exFAT file system specification, 7.4 and 7.4.8.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems.interface import Entry, EntryKind, FileSystemInfo, Listing, Times
from stillframe.recovery.filesystems.libyal import LibyalFileSystem
from stillframe.recovery.filesystems.readers import peek

_ROOT: Final = 0
_DIRECTORY: Final = 0x10
_FLAGS: Final = {0x1: "read-only", 0x2: "hidden", 0x4: "system", 0x20: "archive"}
_EXFAT_FILE: Final = 0x85
_MAX_DEPTH: Final = 256


class FatFileSystem(LibyalFileSystem):
    def __init__(self, reader: RandomReader) -> None:
        super().__init__(reader, "pyfsfat", "FAT")
        formats = self._library.file_system_formats
        names = {
            formats.FAT12: "fat12",
            formats.FAT16: "fat16",
            formats.FAT32: "fat32",
            formats.EXFAT: "exfat",
        }
        with self._parsing("the label"):
            kind = names[self._volume.file_system_format]
            label = (self._volume.get_label() or "").strip()
        self._is_exfat = kind == "exfat"
        self._places: dict[int, tuple[int, int]] = {}  # node: its directory's node and its number there
        self._info = FileSystemInfo(kind, label, journal_dirty=False, case_sensitive=False)

    @property
    def info(self) -> FileSystemInfo:
        return self._info

    def root(self) -> Entry:
        return Entry("", _ROOT, EntryKind.DIRECTORY, 0)

    def list(self, directory: Entry) -> Listing:
        with self._parsing(directory.name or "/"):
            parent = self._object(directory.node)
            count = parent.number_of_sub_file_entries
        entries: list[Entry] = []
        problems: list[str] = []
        for number in range(count):
            try:
                entry = self._child(directory, parent, number)
            except CorruptInputError as error:
                problems.append(str(error))
                continue
            if entry.name not in {".", ".."}:
                entries.append(entry)
        return Listing(tuple(entries), tuple(problems))

    def symlink_target(self, link: Entry) -> str:
        raise CorruptInputError(f"{link.name}: FAT has no symbolic links")

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        del entry
        return {}

    def _child(self, directory: Entry, parent: Any, number: int) -> Entry:
        with self._parsing(f"entry {number} of {directory.name or '/'}"):
            found = parent.get_sub_file_entry(number)
            entry = self._entry(found)
            self._places.setdefault(entry.node, (directory.node, number))
            return entry

    def _entry(self, found: Any) -> Entry:
        attributes = int(found.file_attribute_flags)
        is_directory = bool(attributes & _DIRECTORY)
        return Entry(
            name=found.name,
            node=int(found.identifier),
            kind=EntryKind.DIRECTORY if is_directory else EntryKind.FILE,
            size_bytes=0 if is_directory else int(found.size),
            times=self._times(int(found.identifier)),
            flags=tuple(word for bit, word in _FLAGS.items() if attributes & bit),
        )

    def _parse(self, node: int) -> Any:
        if node == _ROOT:
            return self._volume.get_root_directory()
        steps: list[int] = []
        while node != _ROOT:
            node, number = self._places[node]
            steps.append(number)
            if len(steps) > _MAX_DEPTH:
                raise ValueError(f"its directories are nested deeper than {_MAX_DEPTH}")
        found = self._volume.get_root_directory()
        for number in reversed(steps):
            found = found.get_sub_file_entry(number)
        return found

    def _times(self, offset_bytes: int) -> Times:
        raw = peek(self._reader, offset_bytes, 32)
        return _exfat_times(raw) if self._is_exfat else _fat_times(raw)


def _fat_times(raw: bytes) -> Times:
    created_tens, created_time, created_date, accessed_date = struct.unpack_from("<BHHH", raw, 13)
    written_time, written_date = struct.unpack_from("<HH", raw, 22)
    return Times(
        modified_ns=dos_time_ns(written_date, written_time),
        accessed_ns=dos_time_ns(accessed_date, 0),
        created_ns=dos_time_ns(created_date, created_time, created_tens),
    )


def _exfat_times(raw: bytes) -> Times:
    if raw[0] != _EXFAT_FILE:
        return Times()
    created, modified, accessed = struct.unpack_from("<III", raw, 8)
    created_tens, modified_tens, created_zone, modified_zone, accessed_zone = raw[20:25]
    return Times(
        modified_ns=_zoned(modified, modified_tens, modified_zone),
        accessed_ns=_zoned(accessed, 0, accessed_zone),
        created_ns=_zoned(created, created_tens, created_zone),
    )


def _zoned(stamp: int, tens_of_ms: int, zone: int) -> int | None:
    """exFAT adds the distance to UTC in quarters of an hour, a signed 7-bit number, where bit 7 is set."""
    local = dos_time_ns(stamp >> 16, stamp & 0xFFFF, tens_of_ms)
    if local is None or not zone & 0x80:
        return local
    quarters = (zone & 0x7F) - (0x80 if zone & 0x40 else 0)
    return local - quarters * 15 * 60 * 10**9


def dos_time_ns(date: int, time: int, tens_of_ms: int = 0) -> int | None:
    """A DOS date and time in nanoseconds since 1970, or None for a date that is not set or not possible."""
    try:
        day = datetime(1980 + (date >> 9), (date >> 5) & 0xF, date & 0x1F, tzinfo=UTC)
    except ValueError:
        return None
    seconds = (time >> 11) * 3600 + ((time >> 5) & 0x3F) * 60 + (time & 0x1F) * 2
    whole = day + timedelta(seconds=seconds, milliseconds=tens_of_ms * 10)
    return round(whole.timestamp() * 1000) * 10**6
