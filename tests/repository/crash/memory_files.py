"""A file system in memory that behaves like POSIX to the local storage and writes down all it is told."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from threading import RLock

from stillframe.repository.storage.files import FileStatus
from stillframe.repository.storage.local import TEMPORARY_FOLDER
from tests.repository.crash.operations import FOLDER, Entry, Operation, Promise, SyncFile, SyncFolder, Write


@dataclass(slots=True)
class _File:
    number: int
    data: bytearray = field(default_factory=bytearray)
    links: int = 0
    locked_by: int | None = None


@dataclass(frozen=True, slots=True)
class _Handle:
    file: _File
    is_temporary: bool
    writable: bool


class MemoryFiles:
    """``FileOps`` in memory; ``log`` is what has happened so far, beginning with what was there (and safe).

    Reading a temporary file is an error of the test: the crash states need not tell their contents apart only
    because nobody ever looks at them.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None, folders: Collection[str] = ()) -> None:
        self.log: list[Operation] = []
        self._folders: dict[str, dict[str, _File | None]] = {".": {}}
        self._handles: dict[int, _Handle] = {}
        self._file_numbers = count()
        self._handle_numbers = count(3)
        self._lock = RLock()
        for folder in sorted(folders):
            self.mkdir(folder)
        for path, data in (files or {}).items():
            handle = self.create(path)
            self.write(handle, memoryview(data))
            self.fdatasync(handle)
            self.close(handle)
        for folder in self._folders if files or folders else ():
            self.fsync_folder(folder)

    def promise(self, what: object) -> None:
        """Note that something has been acknowledged."""
        with self._lock:
            self.log.append(Promise(what))

    def create(self, path: str) -> int:
        with self._lock:
            file = _File(next(self._file_numbers))
            self._add(path, file)
            return self._handle(path, file, writable=True)

    def open(self, path: str, *, writable: bool = False) -> int:
        with self._lock:
            return self._handle(path, self._file(path), writable=writable)

    def flock(self, handle: int) -> bool:
        with self._lock:
            file = self._handles[handle].file
            if file.locked_by not in (None, handle):
                return False
            file.locked_by = handle
            return True

    def write(self, handle: int, data: memoryview) -> int:
        with self._lock:
            if not self._handles[handle].writable:
                raise _error(errno.EBADF)
            file = self._handles[handle].file
            self.log.append(Write(file.number, len(file.data), bytes(data)))
            file.data += data
            return len(data)

    def fdatasync(self, handle: int) -> None:
        with self._lock:
            self.log.append(SyncFile(self._handles[handle].file.number))

    def pread(self, handle: int, length_bytes: int, offset_bytes: int) -> bytes:
        with self._lock:
            opened = self._handles[handle]
            assert not opened.is_temporary, "temporary files are never read"
            return bytes(opened.file.data[offset_bytes : offset_bytes + length_bytes])

    def fstat(self, handle: int) -> FileStatus:
        with self._lock:
            file = self._handles[handle].file
            return FileStatus(len(file.data), file.links)

    def close(self, handle: int) -> None:
        with self._lock:
            file = self._handles.pop(handle).file
            if file.locked_by == handle:
                file.locked_by = None

    def link(self, existing: str, new: str) -> None:
        with self._lock:
            file = self._entry(existing)
            folder, name = _split(new)
            if file is None and name not in self._folder(folder):
                raise _error(errno.EPERM, existing)
            self._add(new, file)

    def unlink(self, path: str) -> None:
        with self._lock:
            file = self._file(path)
            folder, name = _split(path)
            del self._folder(folder)[name]
            file.links -= 1
            self.log.append(Entry(folder, name, None))

    def mkdir(self, path: str) -> None:
        with self._lock:
            folder, name = _split(path)
            if name in self._folder(folder):
                raise _error(errno.EEXIST, path)
            self._folder(folder)[name] = None
            self._folders[path] = {}
            self.log.append(Entry(folder, name, FOLDER))

    def fsync_folder(self, path: str) -> None:
        with self._lock:
            self._folder(path)
            self.log.append(SyncFolder(path))

    def exists(self, path: str) -> bool:
        with self._lock:
            folder, name = _split(path)
            with suppress(FileNotFoundError):
                return name in self._folder(folder)
            return False

    def scandir(self, path: str) -> Iterator[tuple[str, bool]]:
        with self._lock:
            entries = sorted((name, file is None) for name, file in self._folder(path).items())
        yield from entries

    def release(self) -> None:
        """There is no root to let go of."""

    def _add(self, path: str, file: _File | None) -> None:
        folder, name = _split(path)
        if file is None or name in self._folder(folder):
            raise _error(errno.EEXIST, path)
        self._folder(folder)[name] = file
        file.links += 1
        self.log.append(Entry(folder, name, file.number))

    def _handle(self, path: str, file: _File, *, writable: bool) -> int:
        number = next(self._handle_numbers)
        self._handles[number] = _Handle(file, _split(path)[0] == TEMPORARY_FOLDER, writable)
        return number

    def _folder(self, path: str) -> dict[str, _File | None]:
        if path in self._folders:
            return self._folders[path]
        above, name = _split(path)
        raise _error(errno.ENOTDIR if name in self._folder(above) else errno.ENOENT, path)

    def _entry(self, path: str) -> _File | None:
        """The file; None: a folder."""
        folder, name = _split(path)
        if name not in self._folder(folder):
            raise _error(errno.ENOENT, path)
        return self._folder(folder)[name]

    def _file(self, path: str) -> _File:
        file = self._entry(path)
        if file is None:
            raise _error(errno.EISDIR, path)
        return file


def _split(path: str) -> tuple[str, str]:
    folder, name = os.path.split(path)
    return folder or ".", name


def _error(number: int, path: str = "") -> OSError:
    return OSError(number, os.strerror(number), path)
