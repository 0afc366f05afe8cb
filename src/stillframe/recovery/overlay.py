"""A reader with private writes on top: what a kernel writes to replay a journal goes here, nowhere else."""

from __future__ import annotations

import os
import tempfile
import threading
from typing import Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import StillframeError
from stillframe.recovery.filesystems.readers import require_range

_PAGE_BYTES: Final = 4096
DEFAULT_LIMIT_BYTES: Final = 4 << 30


class OverlayFullError(StillframeError):
    """More was written over a disk than the overlay may hold."""


class Overlay:
    """Reads as the reader below until a page is written; written pages lie in an unnamed temporary file.

    ``limit_bytes`` bounds what a hostile writer can take of this machine's disk. Methods may be called from
    several threads at once.
    """

    def __init__(self, below: RandomReader, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._below = below
        self._limit_pages = limit_bytes // _PAGE_BYTES
        self._pages: dict[int, int] = {}  # page of the disk: page of the file
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile(prefix="stillframe-overlay-")  # noqa: SIM115 - lives as long as this
        self.name = below.name
        self.size_bytes = below.size_bytes

    @property
    def written_bytes(self) -> int:
        return len(self._pages) * _PAGE_BYTES

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        require_range(self, offset_bytes, len(buffer))
        self._below.read_into(offset_bytes, buffer)
        if not len(buffer):
            return
        with self._lock:
            first, last = offset_bytes // _PAGE_BYTES, (offset_bytes + len(buffer) - 1) // _PAGE_BYTES
            for page in range(first, last + 1):
                if page in self._pages:
                    self._lay(page, offset_bytes, buffer)

    def write(self, offset_bytes: int, data: bytes | memoryview) -> None:
        """Write within the disk's size.

        Raises:
            OverlayFullError: the limit is reached; nothing of this page was written.
        """
        require_range(self, offset_bytes, len(data))
        done = 0
        with self._lock:
            while done < len(data):
                page, start = divmod(offset_bytes + done, _PAGE_BYTES)
                part = data[done : done + _PAGE_BYTES - start]
                slot = self._slot(page, whole=len(part) == _PAGE_BYTES)
                os.pwrite(self._file.fileno(), part, slot * _PAGE_BYTES + start)
                done += len(part)

    def close(self) -> None:
        self._file.close()

    def _lay(self, page: int, offset_bytes: int, buffer: memoryview) -> None:
        """Put what was written of a page over what was read from below."""
        start = max(page * _PAGE_BYTES, offset_bytes)
        end = min((page + 1) * _PAGE_BYTES, offset_bytes + len(buffer))
        place = self._pages[page] * _PAGE_BYTES + start - page * _PAGE_BYTES
        target = buffer[start - offset_bytes : end - offset_bytes]
        target[:] = os.pread(self._file.fileno(), len(target), place)

    def _slot(self, page: int, *, whole: bool) -> int:
        """Where a page lies in the file; a page written in part for the first time is copied up."""
        if page not in self._pages:
            if len(self._pages) >= self._limit_pages:
                limit = self._limit_pages * _PAGE_BYTES
                raise OverlayFullError(f"{self.name}: more than {limit} bytes were written over it")
            slot = len(self._pages)
            if not whole:
                self._copy_up(page, slot)
            self._pages[page] = slot
        return self._pages[page]

    def _copy_up(self, page: int, slot: int) -> None:
        start = page * _PAGE_BYTES
        buffer = bytearray(min(_PAGE_BYTES, self.size_bytes - start))
        self._below.read_into(start, memoryview(buffer))
        os.pwrite(self._file.fileno(), buffer, slot * _PAGE_BYTES)
