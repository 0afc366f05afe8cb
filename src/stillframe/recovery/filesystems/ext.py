"""ext2, ext3 and ext4 through libfsext; names that are no UTF-8 through The Sleuth Kit."""

from __future__ import annotations

import struct
from typing import Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems.ext_attributes import ExtAttributes
from stillframe.recovery.filesystems.interface import Entry, FileSystemInfo, Listing
from stillframe.recovery.filesystems.readers import peek
from stillframe.recovery.filesystems.sleuthkit import SleuthKitNames
from stillframe.recovery.filesystems.unixlike import UnixLikeFileSystem

# Linux Documentation/filesystems/ext4/super.rst: the superblock lies at 1024.
_FEATURE_INCOMPAT_OFFSET: Final = 1024 + 0x60
_NEEDS_RECOVERY: Final = 0x4


class ExtFileSystem(UnixLikeFileSystem):
    def __init__(self, reader: RandomReader) -> None:
        super().__init__(reader, "pyfsext", "ext")
        self._names = SleuthKitNames(reader)
        self._attributes: ExtAttributes | None = None

    @property
    def info(self) -> FileSystemInfo:
        (incompatible,) = struct.unpack("<I", peek(self._reader, _FEATURE_INCOMPAT_OFFSET, 4))
        with self._parsing("the label"):
            label = self._volume.get_label() or ""
        return FileSystemInfo("ext", label, journal_dirty=bool(incompatible & _NEEDS_RECOVERY))

    def list(self, directory: Entry) -> Listing:
        listing = super().list(directory)
        if not listing.problems:
            return listing
        return self._with_foreign_names(directory, listing)

    def _with_foreign_names(self, directory: Entry, listing: Listing) -> Listing:
        """libfsext cannot say a name that is no UTF-8; The Sleuth Kit gives its bytes and inode."""
        seen = {entry.name for entry in listing.entries}
        entries: list[Entry] = []
        problems: list[str] = []
        for name, inode in self._names.list(directory.node):
            if name in seen:
                continue
            try:
                with self._parsing(name):
                    entries.append(self._entry(name, self._object(inode)))
            except CorruptInputError as error:
                problems.append(str(error))
        unexplained = len(listing.problems) - len(entries)
        return Listing(
            listing.entries + tuple(entries), listing.problems if unexplained > 0 else tuple(problems)
        )

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        with self._parsing(entry.name):
            if self._attributes is None:
                self._attributes = ExtAttributes(self._reader, self._inode_data)
            return self._attributes.read(entry.node)

    def _inode_data(self, inode: int, size_bytes: int) -> bytes:
        """The value of an attribute that has an inode of its own."""
        return bytes(self._object(inode).read_buffer_at_offset(size_bytes, 0))
