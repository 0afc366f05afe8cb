"""NTFS through libfsntfs: long names, alternate streams, compressed and sparse files, symbolic links.

Short (8.3) names are not listed by the library. The file system's own files ($MFT and its like) are left out.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import CorruptInputError, UnsupportedError
from stillframe.recovery.filesystems.interface import (
    Entry,
    EntryKind,
    FileSystemInfo,
    Listing,
    Stream,
    Times,
)
from stillframe.recovery.filesystems.libyal import LibyalFileSystem

# Linux fs/ntfs3/ntfs.h and [MS-FSCC] 2.1.2.1, 2.6.
_INDEX_MASK: Final = (1 << 48) - 1
_ROOT: Final = 5
_LOG_FILE: Final = 2
_VOLUME: Final = 3
_FIRST_USER_FILE: Final = 16  # records below are the file system's own; $Extend's children are above
_FILE_NAME: Final = 0x30
_VOLUME_INFORMATION: Final = 0x70
_REPARSE_POINT: Final = 0xC0
_DOS_NAME_SPACE: Final = 2
_VOLUME_IS_DIRTY: Final = 0x1
_RESTART_CLEAN: Final = 0x2
_NO_CLIENT: Final = 0xFFFF
_SYMBOLIC_LINK: Final = 0xA000000C
_JUNCTION: Final = 0xA0000003
_COMPACT_OS: Final = 0x80000017  # WOF: the library decompresses it
_FLAGS: Final = {
    0x1: "read-only",
    0x2: "hidden",
    0x4: "system",
    0x20: "archive",
    0x200: "sparse",
    0x400: "reparse-point",
    0x800: "compressed",
    0x1000: "offline",
    0x4000: "encrypted",
}
_UNIX_EPOCH_TICKS: Final = 116_444_736_000_000_000  # 100 ns from 1601 to 1970


class NtfsFileSystem(LibyalFileSystem):
    def __init__(self, reader: RandomReader) -> None:
        super().__init__(reader, "pyfsntfs", "NTFS")
        with self._parsing("the volume's name and state"):
            label = self._volume.get_name() or ""
            dirty = self._volume_is_dirty() or self._log_is_dirty()
        self._info = FileSystemInfo("ntfs", label, journal_dirty=dirty, case_sensitive=False)

    @property
    def info(self) -> FileSystemInfo:
        return self._info

    def root(self) -> Entry:
        with self._parsing("the root directory"):
            return self._entry("", self._object(_ROOT))

    def list(self, directory: Entry) -> Listing:
        with self._parsing(directory.name or "/"):
            parent = self._object(directory.node)
            count = parent.number_of_sub_file_entries
        entries: list[Entry] = []
        problems: list[str] = []
        for number in range(count):
            try:
                with self._parsing(f"entry {number} of {directory.name or '/'}"):
                    child = parent.get_sub_file_entry(number)
                    entries.append(self._entry(child.name, child))
            except CorruptInputError as error:
                problems.append(str(error))
        return Listing(tuple(entry for entry in entries if not _is_metadata(entry)), tuple(problems))

    def symlink_target(self, link: Entry) -> str:
        with self._parsing(link.name):
            reparse = self._attribute(self._object(link.node), _REPARSE_POINT)
            target = reparse.print_name or reparse.substitute_name
            if not target:
                raise ValueError("the link has no target")
        return str(target).removeprefix("\\??\\").replace("\\", "/")

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        """The security descriptor, under the name by which ntfs-3g takes it back."""
        with self._parsing(entry.name):
            descriptor = self._object(entry.node).get_security_descriptor_data()
        return {"system.ntfs_acl": bytes(descriptor)} if descriptor else {}

    def _parse(self, node: int) -> Any:
        return self._volume.get_file_entry(node)

    def _data(self, file: Entry, stream: str) -> Any:
        found = self._object(file.node)
        if stream:
            return found.get_alternate_data_stream_by_name(stream)
        self._require_own_data(file, found)
        return found

    def _extent_count(self, file: Entry, source: Any) -> int:
        # In a compressed file a hole is the space saved within a compression unit, not a range of zeros.
        return 0 if "compressed" in file.flags else int(source.number_of_extents)

    def _require_own_data(self, file: Entry, found: Any) -> None:
        """Refuse a file whose data are elsewhere, such as in a deduplication store or in a cloud."""
        if "encrypted" in file.flags:
            raise UnsupportedError(
                f"{file.name}: is encrypted by Windows (EFS) and cannot be read from outside"
            )
        if "reparse-point" not in file.flags:
            return
        reparse = self._attribute(found, _REPARSE_POINT)
        if reparse is None or reparse.tag != _COMPACT_OS:
            tag = reparse.tag if reparse else 0
            raise UnsupportedError(
                f"{file.name}: its data are not in the file (reparse tag {tag:#010x}: deduplicated, "
                "in a cloud, or of another filter)",
                hint="Restore the whole disk and read the file with Windows.",
            )

    def _entry(self, name: str, found: Any) -> Entry:
        attributes = int(found.file_attribute_flags)
        kind = self._kind_of(found, attributes)
        return Entry(
            name=name,
            node=int(found.file_reference) & _INDEX_MASK,
            kind=kind,
            size_bytes=int(found.size) if kind is EntryKind.FILE else 0,
            times=_times(found),
            link_key=self._link_key(found) if kind is EntryKind.FILE else None,
            flags=tuple(word for bit, word in _FLAGS.items() if attributes & bit),
            streams=tuple(Stream(s.name, s.size) for s in found.alternate_data_streams),
        )

    def _kind_of(self, found: Any, attributes: int) -> EntryKind:
        if attributes & 0x400:
            reparse = self._attribute(found, _REPARSE_POINT)
            if reparse is not None and reparse.tag in {_SYMBOLIC_LINK, _JUNCTION}:
                return EntryKind.SYMLINK
        return EntryKind.DIRECTORY if found.has_directory_entries_index() else EntryKind.FILE

    def _link_key(self, found: Any) -> str | None:
        attributes = (found.get_attribute(number) for number in range(found.number_of_attributes))
        names = [
            attribute
            for attribute in attributes
            if attribute.attribute_type == _FILE_NAME and attribute.name_space != _DOS_NAME_SPACE
        ]
        return str(int(found.file_reference) & _INDEX_MASK) if len(names) > 1 else None

    def _attribute(self, found: Any, kind: int) -> Any:
        attributes = (found.get_attribute(number) for number in range(found.number_of_attributes))
        return next((attribute for attribute in attributes if attribute.attribute_type == kind), None)

    def _volume_is_dirty(self) -> bool:
        information = self._attribute(self._object(_VOLUME), _VOLUME_INFORMATION)
        return information is not None and bool(information.flags & _VOLUME_IS_DIRTY)

    def _log_is_dirty(self) -> bool:
        log = self._object(_LOG_FILE)
        if log.size < 8192:
            return False
        areas = [_restart_area(log.read_buffer_at_offset(4096, at)) for at in (0, 4096)]
        known = [area for area in areas if area]
        return bool(known) and not max(known)[1]


def _restart_area(page: bytes) -> tuple[int, bool] | None:
    """Sequence number of a restart page of $LogFile, and whether it says that the volume was unmounted.

    Layout: Linux fs/ntfs3/fslog.c, struct RESTART_HDR and struct RESTART_AREA.
    """
    if page[:4] != b"RSTR":
        return None
    (area,) = struct.unpack_from("<H", page, 24)
    if area + 16 > len(page):
        return None
    sequence, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, area)
    return sequence, in_use == _NO_CLIENT or bool(flags & _RESTART_CLEAN)


def _is_metadata(entry: Entry) -> bool:
    return entry.node < _FIRST_USER_FILE


def _times(found: Any) -> Times:
    return Times(
        modified_ns=_from_filetime(found.get_modification_time_as_integer()),
        accessed_ns=_from_filetime(found.get_access_time_as_integer()),
        changed_ns=_from_filetime(found.get_entry_modification_time_as_integer()),
        created_ns=_from_filetime(found.get_creation_time_as_integer()),
    )


def _from_filetime(ticks: int) -> int | None:
    return (ticks - _UNIX_EPOCH_TICKS) * 100 if ticks else None
