"""The system calls of the local storage, behind a seam: tests record them, crash them and let them fail."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_FILE_MODE = 0o640
_FOLDER_MODE = 0o770


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What ``fstat`` says: length, and how many names the file still has."""

    size_bytes: int
    links: int


class FileOps(Protocol):
    """File operations under one root folder, with the meaning and the errors (OSError) that POSIX gives them.

    Paths are relative to the root; ``"."`` is the root itself. Handles are open files.
    """

    def create(self, path: str) -> int:
        """A new, empty file, open for writing; FileExistsError if the name is taken."""

    def open(self, path: str, *, writable: bool = False) -> int:
        """An existing file, open for reading (or writing, too)."""

    def flock(self, handle: int) -> bool:
        """Take the exclusive lock of the open file, without waiting; False if another holds it."""

    def write(self, handle: int, data: memoryview) -> int:
        """Append; how many bytes were taken."""

    def fdatasync(self, handle: int) -> None: ...

    def pread(self, handle: int, length_bytes: int, offset_bytes: int) -> bytes: ...

    def fstat(self, handle: int) -> FileStatus: ...

    def close(self, handle: int) -> None: ...

    def link(self, existing: str, new: str) -> None:
        """A second name for a file; FileExistsError if the name is taken, never a replacement."""

    def unlink(self, path: str) -> None: ...

    def mkdir(self, path: str) -> None: ...

    def fsync_folder(self, path: str) -> None: ...

    def exists(self, path: str) -> bool: ...

    def scandir(self, path: str) -> Iterator[tuple[str, bool]]:
        """Names in a folder, each with whether it is a folder itself."""

    def release(self) -> None:
        """Let go of the root folder; harmless when repeated."""


class SystemFiles:
    """The real system calls.

    The root folder is held open, and everything is found from there: a file system that is mounted over the
    root, or unmounted from it, can not make a storage look like another one or like an empty one.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def create(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(path, flags, _FILE_MODE, dir_fd=self._root)

    def open(self, path: str, *, writable: bool = False) -> int:
        return os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC, dir_fd=self._root)

    def flock(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, handle: int, data: memoryview) -> int:
        return os.write(handle, data)

    def fdatasync(self, handle: int) -> None:
        os.fdatasync(handle)

    def pread(self, handle: int, length_bytes: int, offset_bytes: int) -> bytes:
        return os.pread(handle, length_bytes, offset_bytes)

    def fstat(self, handle: int) -> FileStatus:
        status = os.fstat(handle)
        return FileStatus(status.st_size, status.st_nlink)

    def close(self, handle: int) -> None:
        os.close(handle)

    def link(self, existing: str, new: str) -> None:
        os.link(existing, new, src_dir_fd=self._root, dst_dir_fd=self._root)

    def unlink(self, path: str) -> None:
        os.unlink(path, dir_fd=self._root)

    def mkdir(self, path: str) -> None:
        os.mkdir(path, _FOLDER_MODE, dir_fd=self._root)

    def fsync_folder(self, path: str) -> None:
        handle = self._open_folder(path)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def exists(self, path: str) -> bool:
        try:
            os.stat(path, dir_fd=self._root)
        except FileNotFoundError:
            return False
        return True

    def scandir(self, path: str) -> Iterator[tuple[str, bool]]:
        handle = self._open_folder(path)
        try:
            with os.scandir(handle) as entries:
                for entry in entries:
                    yield entry.name, entry.is_dir()
        finally:
            os.close(handle)

    def release(self) -> None:
        root, self._root = self._root, -1
        if root != -1:
            os.close(root)

    def _open_folder(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
