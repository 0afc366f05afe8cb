"""Sector bitmaps of a differencing disk that is being written.

Only blocks that are partially present have bits set: those of a block that became whole are cleared again, so
that the bytes of the file depend on the disk's contents and not on how they arrived.
"""

from __future__ import annotations

import numpy as np

from stillframe.disk.staged import StagedFile
from stillframe.disk.vhdx.bat import SECTORS_PER_CHUNK
from stillframe.disk.vhdx.block_table import read_padded
from stillframe.disk.vhdx.plan import FilePlan


class BitmapWriter:
    """Not safe for several threads at once; the target's lock is held around every call."""

    def __init__(self, file: StagedFile, plan: FilePlan) -> None:
        self._file = file
        self._plan = plan
        self._sector_bytes = plan.shape.geometry.logical_sector_bytes
        self._block_sectors = plan.shape.block_bytes // self._sector_bytes

    def set(self, first_sector: int, end_sector: int) -> None:
        """Note that sectors of one block are here."""
        chunk, first_bit = divmod(first_sector, SECTORS_PER_CHUNK)
        end_bit = first_bit + end_sector - first_sector
        first_byte, end_byte = first_bit // 8, -(-end_bit // 8)
        offset_bytes = self._plan.bitmap_offset(chunk) + first_byte
        bits = self._read(offset_bytes, end_byte - first_byte)
        bits[first_bit - first_byte * 8 : end_bit - first_byte * 8] = 1
        self._file.write(offset_bytes, np.packbits(bits, bitorder="little").tobytes())

    def is_full(self, block: int) -> bool:
        """Whether every visible sector of the block is here."""
        visible = self._plan.shape.visible_bytes(block) // self._sector_bytes
        return bool(self._read(self._offset(block), self._block_sectors // 8)[:visible].all())

    def clear(self, block: int) -> None:
        self._file.write(self._offset(block), bytes(self._block_sectors // 8))

    def _offset(self, block: int) -> int:
        chunk, first_bit = divmod(block * self._block_sectors, SECTORS_PER_CHUNK)
        return self._plan.bitmap_offset(chunk) + first_bit // 8

    def _read(self, offset_bytes: int, length_bytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        raw = read_padded(self._file, offset_bytes, length_bytes)
        return np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
