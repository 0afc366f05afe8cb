"""Beginning to write to the disk while more is produced, so that the final fsync finds little to do."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

STEP_BYTES = 16 << 20
_SYNC_FILE_RANGE_WRITE = 2  # start writing dirty pages, do not wait (sync_file_range(2))


class WriteBehind:
    """Asks the kernel, every 16 MiB, to start writing a file out.

    Where the kernel has no such call, or refuses it for this file, nothing is lost but time: durability is
    fsync's business alone.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending_bytes = 0

    def wrote(self, length_bytes: int) -> None:
        """So much more is in the page cache. Threads may miss each other's counts; it is only a hint."""
        self._pending_bytes += length_bytes
        if self._pending_bytes >= STEP_BYTES:
            self._pending_bytes = 0
            start_writing = _sync_file_range()
            if start_writing is not None:
                start_writing(self._descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
        call.restype = ctypes.c_int
    return call
