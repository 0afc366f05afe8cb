"""The BAT of a file that is being written. It lives in the file, so its size costs no memory.

While the file is unfinished, a reserved bit of an entry notes that zeros were written over the block: it may
have become all zero. Finishing looks, and clears the bit.
"""

from __future__ import annotations

import os

import numpy as np

from stillframe.disk.staged import StagedFile, writing
from stillframe.disk.vhdx.bat import ENTRY_BYTES, BatShape, Entries
from stillframe.disk.vhdx.plan import BAT_OFFSET

MAYBE_ZERO = 1 << 3


def read_padded(file: StagedFile, offset_bytes: int, length_bytes: int) -> bytes:
    """Bytes of an unfinished file; behind its end are zeros."""
    with writing(file.path):
        found = os.pread(file.descriptor, length_bytes, offset_bytes)
    return found.ljust(length_bytes, b"\0")


class BlockTable:
    """Entries by index, or those of neighbouring payload blocks of one chunk at once."""

    def __init__(self, file: StagedFile, shape: BatShape) -> None:
        self.shape = shape
        self._file = file

    def get(self, index: int) -> int:
        return int.from_bytes(read_padded(self._file, _offset(index), ENTRY_BYTES), "little")

    def set(self, index: int, entry: int) -> None:
        self._file.write(_offset(index), entry.to_bytes(ENTRY_BYTES, "little"))

    def payload(self, first_block: int, end_block: int) -> Entries:
        length_bytes = (end_block - first_block) * ENTRY_BYTES
        raw = read_padded(self._file, _offset(self.shape.payload_index(first_block)), length_bytes)
        return np.frombuffer(bytearray(raw), "<u8")

    def set_payload(self, first_block: int, entries: Entries) -> None:
        self._file.write(_offset(self.shape.payload_index(first_block)), entries.tobytes())


def _offset(index: int) -> int:
    return BAT_OFFSET + index * ENTRY_BYTES
