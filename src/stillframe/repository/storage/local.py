"""Objects as files in a folder of this machine (or of a mounted network file system).

An object gets its name by ``link()``, which never replaces, after its bytes are durable; so a name shows a
whole object or none. A put returns when the name is durable too.

Another process sees a new name before it is durable. Would it write on that account, a power cut could keep
what it wrote and lose what it wrote it on: an entry of the log without the one before, or bytes deleted for
an entry that is gone. Therefore folders from which objects were read are synced before anything is written
or deleted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stillframe.errors import UsageError
from stillframe.repository.storage.base import (
    ObjectCutOffError,
    ObjectMissingError,
    StorageError,
    check_name,
    is_name,
)
from stillframe.repository.storage.descriptors import OpenFiles
from stillframe.repository.storage.durability import ROOT, Folders, folder_of
from stillframe.repository.storage.failures import link_failure, storage_failure
from stillframe.repository.storage.files import FileOps

TEMPORARY_FOLDER = ".tmp"  # begins with a dot, so that it cannot be an object's name
_HARMLESS = {"lost+found", TEMPORARY_FOLDER}
_ATTEMPTS = 4
_OPEN_FILES = 64


class LocalStorage:
    """A folder that holds a repository."""

    def __init__(self, files: FileOps, location: str, *, create: bool = False) -> None:
        """
        Args:
            files: the folder.
            location: how to call it.
            create: make a storage of it if it is none; the folder has to be empty then.

        Raises:
            StorageError: it holds no storage, or gives no answer.
            UsageError: ``create``, and the folder holds other things.
        """
        self._files = files
        self._location = location
        self._open_files = OpenFiles(files, _OPEN_FILES)
        self._folders = Folders(files, location)
        self._in_doubt: set[str] = set()
        self._leftovers_removed = False
        if create:
            self._create()
        self._require()

    @property
    def location(self) -> str:
        """The folder's path."""
        return self._location

    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        check_name(name)
        with self._failures(f"store {name}"):
            self._begin_change()
            return self._put_again_and_again(name, memoryview(data).cast("B"))

    def get(self, name: str) -> bytes:
        check_name(name)
        with self._failures(f"read {name}", name):
            self._settle_doubt(name)
            handle = self._files.open(name)
            try:
                data = self._read(handle, name, 0, self._files.fstat(handle).size_bytes)
            finally:
                self._files.close(handle)
        self._folders.note_read(folder_of(name))
        return data

    def get_range(self, name: str, offset_bytes: int, length_bytes: int) -> bytes:
        check_name(name)
        with self._failures(f"read {name}", name):
            try:
                return self._read_range(name, offset_bytes, length_bytes)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                self._open_files.forget(name)  # deleted by another machine, or the server has restarted
                return self._read_range(name, offset_bytes, length_bytes)

    def size(self, name: str) -> int:
        check_name(name)
        with self._failures(f"read {name}", name):
            handle = self._files.open(name)
            try:
                return self._files.fstat(handle).size_bytes
            finally:
                self._files.close(handle)

    def list(self, prefix: str) -> Iterator[str]:
        if prefix:
            check_name(prefix.removesuffix("/"))
        with self._failures(f"list {prefix or self._location}"):
            yield from self._walk(prefix)
            self._require()

    def delete(self, name: str) -> None:
        check_name(name)
        self._open_files.forget(name)
        with self._failures(f"delete {name}"):
            self._begin_change()
            try:
                self._files.unlink(name)
            except FileNotFoundError:
                self._require()
            else:
                self._folders.sync(folder_of(name))

    def close(self) -> None:
        self._open_files.forget_all()
        self._files.release()

    # Putting

    def _put_again_and_again(self, name: str, data: memoryview) -> bool:
        """A cleaner may take a temporary file before it is locked, or a person a folder: begin anew then."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(FileNotFoundError):
                return self._put(name, data)
            self._require()
            self._folders.forget()
        return self._put(name, data)

    def _put(self, name: str, data: memoryview) -> bool:
        folder = folder_of(name)
        self._folders.make(folder)
        with self._temporary_file(data) as (path, handle):
            self._in_doubt.add(name)
            is_new = self._link(path, handle, name)
        self._folders.sync(folder)
        self._in_doubt.discard(name)
        return is_new

    def _settle_doubt(self, name: str) -> None:
        """Whoever looks whether a put that failed has happened may take yes for durable: so it has to be."""
        if name in self._in_doubt:
            self._folders.sync(folder_of(name))
            self._in_doubt.discard(name)

    @contextmanager
    def _temporary_file(self, data: memoryview) -> Iterator[tuple[str, int]]:
        """A file with these bytes, durable, its name not; locked, which says that its writer lives."""
        self._folders.make(TEMPORARY_FOLDER)
        path = f"{TEMPORARY_FOLDER}/{os.urandom(16).hex()}"
        handle = self._files.create(path)
        try:
            self._files.flock(handle)
            while data:
                data = data[self._files.write(handle, data) :]
            self._files.fdatasync(handle)
            yield path, handle
        finally:
            with suppress(FileNotFoundError):
                self._files.unlink(path)
            self._files.close(handle)

    def _link(self, path: str, handle: int, name: str) -> bool:
        """Give the file its name. NFS may repeat a request, and then find that its own link exists."""
        try:
            self._files.link(path, name)
        except FileExistsError:
            return self._files.fstat(handle).links > 1
        except FileNotFoundError:
            raise
        except OSError as error:
            raise link_failure(self._location, name, error) from error
        return True

    # Before a change

    def _begin_change(self) -> None:
        self._folders.refuse_after_failure()
        if not self._leftovers_removed:
            self._leftovers_removed = True
            self._remove_leftovers()
        self._folders.sync_what_was_read()

    def _remove_leftovers(self) -> None:
        """Remove the temporary files of dead writers: those whose lock nobody holds."""
        with suppress(FileNotFoundError):
            for name, _ in self._files.scandir(TEMPORARY_FOLDER):
                with suppress(FileNotFoundError, PermissionError):  # gone, or another user's
                    self._remove_if_dead(f"{TEMPORARY_FOLDER}/{name}")

    def _remove_if_dead(self, path: str) -> None:
        handle = self._files.open(path, writable=True)  # NFS locks nothing else
        try:
            if self._files.flock(handle):
                self._files.unlink(path)
        finally:
            self._files.close(handle)

    # Reading

    def _read_range(self, name: str, offset_bytes: int, length_bytes: int) -> bytes:
        opened = self._open_files.get(name)
        return self._read(opened.handle, name, offset_bytes, length_bytes)

    def _read(self, handle: int, name: str, offset_bytes: int, length_bytes: int) -> bytes:
        data = self._files.pread(handle, length_bytes, offset_bytes)
        while len(data) < length_bytes:
            missing = self._files.pread(handle, length_bytes - len(data), offset_bytes + len(data))
            if not missing:
                raise ObjectCutOffError(
                    f"{self._location}: {name} ends at byte {offset_bytes + len(data)}, "
                    f"but bytes {offset_bytes} to {offset_bytes + length_bytes} were expected",
                    hint="`stillframe repo check` tells all the damage, `stillframe repo repair` mends it.",
                )
            data += missing
        return data

    def _walk(self, prefix: str) -> Iterator[str]:
        with suppress(FileNotFoundError):
            for name, is_folder in self._files.scandir(prefix.removesuffix("/") or ROOT):
                if not is_name(prefix + name):
                    continue
                if is_folder:
                    yield from self._walk(f"{prefix}{name}/")
                else:
                    yield prefix + name

    # The folder itself

    def _create(self) -> None:
        with self._failures("create a storage"):
            if self._is_storage():
                return
            if any(name not in _HARMLESS for name, _ in self._files.scandir(ROOT)):
                raise UsageError(
                    f"{self._location} is not empty, and is no repository",
                    hint="A new repository needs a folder of its own.",
                )
            self._folders.make(TEMPORARY_FOLDER)

    def _is_storage(self) -> bool:
        """``config`` alone will do: copies made by other tools may lack the empty folder."""
        return self._files.exists(TEMPORARY_FOLDER) or self._files.exists("config")

    def _require(self) -> None:
        """Something was not found: be sure that the whole folder is not what is missing."""
        with self._failures("look for the repository"):
            if self._is_storage():
                return
        raise StorageError(
            f"{self._location}: no repository is there (any more)",
            hint="Is its file system mounted? A new repository is made by `repo init`.",
        )

    @contextmanager
    def _failures(self, action: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not name:
                raise storage_failure(self._location, action, error) from error
            self._require()
            raise ObjectMissingError(f"{self._location}: {name} is not there") from error
        except OSError as error:
            raise storage_failure(self._location, action, error) from error
