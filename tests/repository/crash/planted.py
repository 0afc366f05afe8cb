"""File systems and storages with one bug each: what the explorers must find, or they prove nothing."""

from __future__ import annotations

import errno
import os

from stillframe.repository.operations import Delete, Operation, Put, Result, Steps, perform
from stillframe.repository.storage.base import Storage, StorageError
from stillframe.repository.storage.local import LocalStorage
from tests.repository.crash.memory_files import MemoryFiles


class ForgetsDataSync(MemoryFiles):
    def fdatasync(self, handle: int) -> None:
        pass


class ForgetsFolderSync(MemoryFiles):
    def fsync_folder(self, path: str) -> None:
        pass


class ForgetsSyncOfNewFolders(MemoryFiles):
    """New folders of the log and of packs are not made durable in the folder above."""

    def fsync_folder(self, path: str) -> None:
        if path not in ("log", "data", "meta"):
            super().fsync_folder(path)


class SyncsDataAfterLink(MemoryFiles):
    """The right calls in the wrong order."""

    def fdatasync(self, handle: int) -> None:
        self.late = handle

    def unlink(self, path: str) -> None:
        if path.startswith(".tmp/"):
            super().fdatasync(self.late)
        super().unlink(path)


class FailsOneSync(MemoryFiles):
    """One sync of a folder below ``log/`` is an input/output error."""

    def __init__(self, failing: int) -> None:
        super().__init__()
        self.until_failure = failing
        self.failed_after = 0

    def fsync_folder(self, path: str) -> None:
        if path.startswith("log/"):
            self.until_failure -= 1
            if self.until_failure == -1:
                self.failed_after = len(self.log)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fsync_folder(path)


class TrustsFailedPuts(LocalStorage):
    """Shows a put whose sync failed to whoever looks whether it has happened."""

    def _settle_doubt(self, name: str) -> None:
        pass


class SyncsNothingThatItRead(LocalStorage):
    """Writes on account of what another process may not have made durable."""

    def get(self, name: str) -> bytes:
        data = super().get(name)
        self._folders._read_from.clear()
        return data


class _HoldsBack(LocalStorage):
    """Puts objects of one kind only after the next log entry."""

    held_folder = ""

    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        held = self.__dict__.setdefault("held", [])
        if name.startswith(self.held_folder):
            held.append((name, bytes(data)))
            return True
        is_new = super().put_if_absent(name, data)
        while name.startswith("log/") and held:
            super().put_if_absent(*held.pop(0))
        return is_new

    def get_range(self, name: str, offset_bytes: int, length_bytes: int) -> bytes:
        for held_name, data in self.__dict__.get("held", []):
            if held_name == name:
                return bytes(data[offset_bytes : offset_bytes + length_bytes])
        return super().get_range(name, offset_bytes, length_bytes)


class EntryBeforeSegment(_HoldsBack):
    held_folder = "index/"


class EntryBeforePacks(_HoldsBack):
    held_folder = "data/"


class EntryBeforeNodes(_HoldsBack):
    held_folder = "meta/"


class ConfigBeforeSlots(LocalStorage):
    """Init makes the repository exist before it can be unlocked."""

    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        held = self.__dict__.setdefault("held", [])
        if name.startswith("keys/"):
            held.append((name, bytes(data)))
            return True
        is_new = super().put_if_absent(name, data)
        while held:
            super().put_if_absent(*held.pop(0))
        return is_new


def drive_deletions_before_entry(steps: Steps[Result], storage: Storage) -> None:
    """Runs a collection so that it deletes what its log entry deletes before the entry is there."""
    held: Put | None = None
    try:
        operation = next(steps)
        while True:
            if isinstance(operation, Put) and operation.name.startswith("log/"):
                held = operation
                operation = steps.send(True)
                continue
            if held and not isinstance(operation, Delete):
                perform(held, storage)
                held = None
            operation = _step(steps, operation, storage)
    except StopIteration:
        if held:
            perform(held, storage)


def _step(steps: Steps[Result], operation: Operation, storage: Storage) -> Operation:
    try:
        answer = perform(operation, storage)
    except StorageError as error:
        return steps.throw(error)
    return steps.send(answer)
