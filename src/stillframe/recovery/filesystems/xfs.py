"""XFS, versions 4 and 5, through libfsxfs."""

from __future__ import annotations

from typing import Any, Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems import posix_acl
from stillframe.recovery.filesystems.interface import Entry, FileSystemInfo
from stillframe.recovery.filesystems.unixlike import UnixLikeFileSystem
from stillframe.recovery.filesystems.xfs_log import log_is_dirty

_MAX_VALUE_BYTES: Final = 64 << 10  # XATTR_SIZE_MAX of Linux
_ACCESS_LISTS: Final = {
    "trusted.SGI_ACL_FILE": "system.posix_acl_access",
    "trusted.SGI_ACL_DEFAULT": "system.posix_acl_default",
}


class XfsFileSystem(UnixLikeFileSystem):
    def __init__(self, reader: RandomReader) -> None:
        super().__init__(reader, "pyfsxfs", "XFS")
        with self._parsing("the label"):
            label = self._volume.get_label() or ""
        self._info = FileSystemInfo("xfs", label, journal_dirty=log_is_dirty(reader))

    @property
    def info(self) -> FileSystemInfo:
        return self._info

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        with self._parsing(entry.name):
            found = self._object(entry.node)
            stored = [found.get_extended_attribute(n) for n in range(found.number_of_extended_attributes)]
            return dict(self._xattr(entry, attribute) for attribute in stored)

    def _xattr(self, entry: Entry, attribute: Any) -> tuple[str, bytes]:
        if attribute.size > _MAX_VALUE_BYTES:
            raise CorruptInputError(
                f"{entry.name}: the attribute {attribute.name} has {attribute.size} bytes"
            )
        attribute.seek_offset(0, 0)
        value = attribute.read_buffer(attribute.size) if attribute.size else b""
        return _as_linux(attribute.name, value)


def _as_linux(name: str, value: bytes) -> tuple[str, bytes]:
    """An attribute as the disk holds it, named and encoded as Linux shows it."""
    if name in _ACCESS_LISTS:
        return _ACCESS_LISTS[name], posix_acl.from_xfs(value)
    if name.startswith("secure."):  # libfsxfs's word for the namespace that Linux calls security
        return f"security.{name.removeprefix('secure.')}", value
    return name, value
