"""XFS, versions 4 and 5, through libfsxfs."""

from __future__ import annotations

from stillframe.disk.reader import RandomReader
from stillframe.recovery.filesystems import posix_acl
from stillframe.recovery.filesystems.interface import FileSystemInfo
from stillframe.recovery.filesystems.unixlike import UnixLikeFileSystem
from stillframe.recovery.filesystems.xfs_log import log_is_dirty

_ACCESS_LISTS = {
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

    def _linux_xattr(self, name: str, value: bytes) -> tuple[str, bytes]:
        if name in _ACCESS_LISTS:
            return _ACCESS_LISTS[name], posix_acl.from_xfs(value)
        if name.startswith("secure."):  # libfsxfs's word for the namespace that Linux calls security
            return f"security.{name.removeprefix('secure.')}", value
        return name, value
