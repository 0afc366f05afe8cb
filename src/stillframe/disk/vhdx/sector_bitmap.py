"""Sector bitmaps: which sectors of a partially present block lie in this file ([MS-VHDX] 2.5.2).

One bitmap block of 1 MiB serves one chunk. Bits count from the least significant; 1 means: in this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from stillframe.disk.reader import RandomReader
from stillframe.disk.vhdx.bat import SECTORS_PER_CHUNK, Bat
from stillframe.disk.vhdx.map_pages import MapPages


class SectorBitmaps:
    """Reads the bitmaps of one file."""

    def __init__(self, reader: RandomReader, bat: Bat, pages: MapPages) -> None:
        self._reader = reader
        self._bat = bat
        self._pages = pages

    def runs(self, first_sector: int, end_sector: int) -> Iterator[tuple[int, int, bool]]:
        """``(first, end, here)`` for runs of sectors; the range must lie within one block."""
        chunk, first_bit = divmod(first_sector, SECTORS_PER_CHUNK)
        bits = self._bits(chunk, first_bit, first_bit + end_sector - first_sector)
        edges = [0, *(np.flatnonzero(bits[1:] != bits[:-1]) + 1).tolist(), len(bits)]
        for start, end in pairwise(edges):
            yield first_sector + start, first_sector + end, bool(bits[start])

    def _bits(self, chunk: int, first_bit: int, end_bit: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        first_byte, end_byte = first_bit // 8, -(-end_bit // 8)
        offset_bytes = self._bat.bitmap_offset(chunk) + first_byte
        raw = self._pages.read(self._reader, offset_bytes, end_byte - first_byte)
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        return bits[first_bit - first_byte * 8 : end_bit - first_byte * 8]
