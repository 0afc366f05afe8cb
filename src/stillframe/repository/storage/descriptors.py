"""Files kept open between reads, since a restore reads thousands of ranges a second from few packs."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from stillframe.repository.storage.files import FileOps


class OpenFile:
    """An open file that is closed when the last who uses it lets go of it, and not before.

    So a file may leave the cache while other threads still read from it.
    """

    __slots__ = ("_files", "handle")

    def __init__(self, files: FileOps, handle: int) -> None:
        self._files = files
        self.handle = handle

    def __del__(self) -> None:
        self._files.close(self.handle)

    @property
    def is_deleted(self) -> bool:
        """Whether the file has lost its last name: whoever keeps it open only keeps its space occupied."""
        return self._files.fstat(self.handle).links == 0


class OpenFiles:
    """The files that were read last, by path; the oldest are let go first."""

    def __init__(self, files: FileOps, limit: int) -> None:
        self._files = files
        self._limit = limit
        self._lock = Lock()
        self._open: OrderedDict[str, OpenFile] = OrderedDict()

    def get(self, path: str) -> OpenFile:
        """The file, open; raises OSError as ``FileOps.open``, also when it was deleted since."""
        kept = self._kept(path)
        if kept is not None and not kept.is_deleted:
            return kept
        self.forget(path)
        opened = OpenFile(self._files, self._files.open(path))
        self._keep(path, opened)
        return opened

    def forget(self, path: str) -> None:
        with self._lock:
            self._open.pop(path, None)

    def forget_all(self) -> None:
        with self._lock:
            self._open.clear()

    def _kept(self, path: str) -> OpenFile | None:
        with self._lock:
            kept = self._open.get(path)
            if kept is not None:
                self._open.move_to_end(path)
            return kept

    def _keep(self, path: str, opened: OpenFile) -> None:
        with self._lock:
            self._open[path] = opened
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
