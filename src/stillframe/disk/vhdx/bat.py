"""The block allocation table: which block of the disk lies where in the file ([MS-VHDX] 2.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from stillframe.disk.reader import RandomReader
from stillframe.disk.still import Geometry
from stillframe.disk.vhdx.errors import BlockMapError
from stillframe.disk.vhdx.map_pages import MapPages
from stillframe.disk.vhdx.region_table import Region

ENTRY_BYTES = 8
STATE_MASK = 0x7
OFFSET_MASK = ~0xFFFFF & 0xFFFFFFFFFFFFFFFF
RESERVED_MASK = 0xFFFF8
SECTORS_PER_CHUNK = 1 << 23  # one sector bitmap block of 1 MiB
BATCH_ENTRIES = 8192

Entries = npt.NDArray[np.uint64]


class PayloadState(IntEnum):
    """[MS-VHDX] 2.5.1.1. Without a parent all but the last two read as zeros."""

    NOT_PRESENT = 0  # in a child: look at the parent
    UNDEFINED = 1
    ZERO = 2
    UNMAPPED = 3
    FULLY_PRESENT = 6
    PARTIALLY_PRESENT = 7  # in a child only: the sector bitmap tells


BITMAP_PRESENT = 6  # [MS-VHDX] 2.5.1.2


@dataclass(frozen=True, slots=True)
class BatShape:
    """How many entries there are, and how payload and bitmap entries interleave."""

    geometry: Geometry
    block_bytes: int
    has_parent: bool

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks per sector bitmap block."""
        return SECTORS_PER_CHUNK * self.geometry.logical_sector_bytes // self.block_bytes

    @property
    def payload_blocks(self) -> int:
        return -(-self.geometry.size_bytes // self.block_bytes)

    @property
    def bitmap_blocks(self) -> int:
        return -(-self.payload_blocks // self.chunk_ratio)

    @property
    def entries(self) -> int:
        if self.has_parent:
            return self.bitmap_blocks * (self.chunk_ratio + 1)
        return self.payload_blocks + (self.payload_blocks - 1) // self.chunk_ratio

    @property
    def bytes(self) -> int:
        return self.entries * ENTRY_BYTES

    def payload_index(self, block: int) -> int:
        return block + block // self.chunk_ratio

    def bitmap_index(self, chunk: int) -> int:
        return chunk * (self.chunk_ratio + 1) + self.chunk_ratio

    def visible_bytes(self, block: int) -> int:
        """The block's size, of which the last one may show only a part."""
        return min(self.block_bytes, self.geometry.size_bytes - block * self.block_bytes)


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Neighbouring blocks of one state; present ones also lie one behind the other in the file.

    A partially present block is always alone. ``file_offset_bytes`` means nothing for absent ones.
    """

    first_block: int
    blocks: int
    state: PayloadState
    file_offset_bytes: int

    @property
    def end_block(self) -> int:
        return self.first_block + self.blocks


class Bat:
    """Reads the table page by page."""

    def __init__(self, reader: RandomReader, region: Region, shape: BatShape, pages: MapPages) -> None:
        self.shape = shape
        self._reader = reader
        self._region = region
        self._pages = pages
        if shape.bytes > region.length_bytes:
            what = f"the BAT region has {region.length_bytes} bytes; the disk needs {shape.bytes}"
            raise BlockMapError(reader.name, region.offset_bytes, what)

    def runs(self, first_block: int, end_block: int) -> Iterator[BlockRun]:
        """The blocks of a range in order, as long runs. No run goes over the end of a batch."""
        if end_block - first_block == 1:  # most reads; several times faster without arrays
            yield self._run(first_block, 1, self._entry(self.shape.payload_index(first_block)))
            return
        for first in range(first_block, end_block, BATCH_ENTRIES):
            yield from self._runs(first, self.payload(first, min(end_block, first + BATCH_ENTRIES)))

    def payload(self, first_block: int, end_block: int) -> Entries:
        """The raw entries of payload blocks, bitmap entries left out."""
        shape = self.shape
        first, last = shape.payload_index(first_block), shape.payload_index(end_block - 1)
        entries = self._entries(first, last + 1)
        if last - first == end_block - 1 - first_block:
            return entries
        group = shape.chunk_ratio + 1
        payload: Entries = entries[np.arange(first, last + 1) % group != shape.chunk_ratio]
        return payload

    def bitmap_entry(self, chunk: int) -> int:
        return self._entry(self.shape.bitmap_index(chunk))

    def bitmap_offset(self, chunk: int) -> int:
        """Where in the file the sector bitmap block of a chunk lies.

        Raises:
            BlockMapError: there is none, although one of the chunk's blocks is partially present.
        """
        entry = self.bitmap_entry(chunk)
        if entry & STATE_MASK != BITMAP_PRESENT:
            index = self.shape.bitmap_index(chunk)
            raise self.error(index, f"sector bitmap {chunk} is needed, but has state {entry & STATE_MASK}")
        return entry & OFFSET_MASK

    def error(self, index: int, what: str) -> BlockMapError:
        return BlockMapError(self._reader.name, self._region.offset_bytes + index * ENTRY_BYTES, what)

    def _entry(self, index: int) -> int:
        offset_bytes = self._region.offset_bytes + index * ENTRY_BYTES
        return int.from_bytes(self._pages.read(self._reader, offset_bytes, ENTRY_BYTES), "little")

    def _entries(self, first: int, end: int) -> Entries:
        offset_bytes = self._region.offset_bytes + first * ENTRY_BYTES
        raw = self._pages.read(self._reader, offset_bytes, (end - first) * ENTRY_BYTES)
        return np.frombuffer(raw, "<u8")

    def _runs(self, first_block: int, entries: Entries) -> Iterator[BlockRun]:
        starts = _run_starts(entries, self.shape.block_bytes)
        for start, end in zip(starts, [*starts[1:], len(entries)], strict=True):
            yield self._run(first_block + start, end - start, int(entries[start]))

    def _run(self, block: int, blocks: int, entry: int) -> BlockRun:
        try:
            state = PayloadState(entry & STATE_MASK)
        except ValueError:
            what = f"block {block} has state {entry & STATE_MASK}"
            raise self.error(self.shape.payload_index(block), what) from None
        return BlockRun(block, blocks, state, entry & OFFSET_MASK)


def _run_starts(entries: Entries, block_bytes: int) -> list[int]:
    states = entries & STATE_MASK
    follows = (entries[1:] & OFFSET_MASK) == (entries[:-1] & OFFSET_MASK) + block_bytes
    absent = states[1:] < PayloadState.FULLY_PRESENT
    joins = (states[1:] == states[:-1]) & (absent | (follows & (states[1:] == PayloadState.FULLY_PRESENT)))
    return [0, *(np.flatnonzero(~joins) + 1).tolist()]
