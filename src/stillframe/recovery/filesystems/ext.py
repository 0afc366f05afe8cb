"""ext2, ext3 and ext4 through libfsext; names that are no UTF-8 through The Sleuth Kit."""

from __future__ import annotations

import struct
from typing import Any, Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems import posix_acl
from stillframe.recovery.filesystems.interface import Entry, FileSystemInfo, Listing
from stillframe.recovery.filesystems.readers import peek
from stillframe.recovery.filesystems.sleuthkit import SleuthKitNames
from stillframe.recovery.filesystems.unixlike import UnixLikeFileSystem

# Linux Documentation/filesystems/ext4/super.rst: the superblock lies at 1024.
_FEATURE_INCOMPAT_OFFSET: Final = 1024 + 0x60
_NEEDS_RECOVERY: Final = 0x4
_ACCESS_LISTS: Final = {"system.posix_acl_access", "system.posix_acl_default"}


class ExtFileSystem(UnixLikeFileSystem):
    def __init__(self, reader: RandomReader) -> None:
        super().__init__(reader, "pyfsext", "ext")
        self._names = SleuthKitNames(reader)
        self._attribute_volume: Any = None
        self._asked_for_attributes: set[int] = set()

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

    def _attributed(self, node: int) -> Any:
        """A file as a volume parses it that never met it before.

        libfsext forgets the attributes kept within the inode from the second time on that it reads it.
        """
        if self._attribute_volume is None or node in self._asked_for_attributes:
            self._attribute_volume = self._library.volume()
            self._attribute_volume.open_file_object(self._file)
            self._asked_for_attributes.clear()
        self._asked_for_attributes.add(node)
        return self._attribute_volume.get_file_entry_by_inode(node)

    def _is_user_visible(self, attribute: Any) -> bool:
        return str(attribute.name) != "system.data"  # the data of a small file kept in its inode

    def _linux_xattr(self, name: str, value: bytes) -> tuple[str, bytes]:
        return name, posix_acl.from_ext(value) if name in _ACCESS_LISTS else value
