"""Which folders are known to survive a power cut, and which must be synced before the next change."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock

from stillframe.repository.storage.base import StorageError
from stillframe.repository.storage.files import FileOps

ROOT = "."


def folder_of(path: str) -> str:
    return os.path.dirname(path) or ROOT


class Folders:
    """Makes and syncs the folders of one storage. Safe between threads."""

    def __init__(self, files: FileOps, place: str) -> None:
        self._files = files
        self._place = place
        self._durable: set[str] = set()
        self._read_from: set[str] = set()
        self._lock = Lock()
        self._failed = ""

    def make(self, folder: str) -> None:
        """Make sure that a folder is there and durable: one made by another process may not be, yet."""
        if folder == ROOT or folder in self._durable:
            return
        above = folder_of(folder)
        self.make(above)
        with suppress(FileExistsError):
            self._files.mkdir(folder)
        self.sync(above)
        self._durable.add(folder)

    def forget(self) -> None:
        """Somebody removed a folder: look at them all anew."""
        self._durable.clear()

    def sync(self, folder: str) -> None:
        """Make the entries of a folder durable; once that has failed, only StorageError."""
        self.refuse_after_failure()
        try:
            self._files.fsync_folder(folder)
        except FileNotFoundError:
            raise
        except OSError:
            self._failed = folder
            raise

    def note_read(self, folder: str) -> None:
        """An object was read from there, whose name may not be durable yet."""
        self._read_from.add(folder)

    def sync_what_was_read(self) -> None:
        """To be called before anything is changed on account of what was read."""
        with self._lock:  # who finds the set empty must not overtake who still syncs
            while self._read_from:
                self.sync(self._read_from.pop())

    def refuse_after_failure(self) -> None:
        """The kernel tells of a lost write once and may call the next sync a success: never ask it again."""
        if self._failed:
            raise StorageError(
                f"{self._place}: {self._failed} could not be made durable; nothing more is written",
                hint="Look into the system log, then run the command again.",
            )
