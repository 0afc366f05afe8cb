"""Writing dynamic and differencing VHDs: blocks are placed as they come, the table is written at the end.

Only the table is held in memory, 4 bytes a block and at most 16 MiB. Blocks that are never written take no
space; the bitmaps of a differencing disk live in the file and are updated there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from stillframe.disk.ranges import check_range
from stillframe.disk.staged import StagedFile, writing
from stillframe.disk.still import Extent, Geometry
from stillframe.disk.vhd.bat import ABSENT, bitmap_bytes
from stillframe.disk.vhd.disk import VhdDisk
from stillframe.disk.vhd.dynamic_header import HEADER_BYTES, DynamicHeader
from stillframe.disk.vhd.footer import FOOTER_BYTES, SECTOR_BYTES, Footer
from stillframe.disk.vhd.locator import LOCATOR_COUNT, RELATIVE, LocatorEntry, relative_windows_path

_TABLE_OFFSET = FOOTER_BYTES + HEADER_BYTES
_DATA_ALIGNMENT_BYTES = 4096  # Windows places blocks so that their data, not their bitmap, is aligned


@dataclass(frozen=True, slots=True)
class Parent:
    """The disk that a differencing disk is made on: an open one, and where it is."""

    disk: VhdDisk
    path: Path


class BlockVhdTarget:
    """A new dynamic or differencing VHD; see ``DiskTarget``.

    In a differencing disk what is not written is the parent's, and writes are of whole sectors.
    """

    def __init__(
        self, path: Path, geometry: Geometry, footer: Footer, block_bytes: int, parent: Parent | None
    ) -> None:
        self._file = StagedFile(path)
        self._geometry = geometry
        self._footer = footer
        self._parent = parent
        self._block_bytes = block_bytes
        self._bitmap_bytes = bitmap_bytes(block_bytes)
        self._table = np.full(-(-geometry.size_bytes // block_bytes), ABSENT, dtype=np.uint32)
        self._locator_path = _locator_path(path, parent)
        self._end_bytes = self._locator_offset + _whole_sectors(len(self._locator_path))
        self._placing = threading.Lock()

    @property
    def _locator_offset(self) -> int:
        return _TABLE_OFFSET + _whole_sectors(4 * len(self._table))

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None:
        check_range(self._geometry, offset_bytes, len(data))
        view = memoryview(data).cast("B")
        for block, within, start, length in self._pieces(offset_bytes, len(view)):
            self._file.write(self._take(block, within, length) + within, view[start : start + length])

    def zero(self, extent: Extent) -> None:
        check_range(self._geometry, extent.offset_bytes, extent.length_bytes)
        if self._parent:  # zeros must hide the parent's data; a new block of the file is a hole
            for block, within, _start, length in self._pieces(extent.offset_bytes, extent.length_bytes):
                self._take(block, within, length)

    def finish(self) -> None:
        table = self._table.astype(">u4").tobytes()
        footer = self._footer.pack()
        self._file.write(self._end_bytes, footer)
        self._file.write(self._locator_offset, self._locator_path)
        self._file.write(_TABLE_OFFSET, table.ljust(_whole_sectors(len(table)), b"\xff"))
        self._file.write(FOOTER_BYTES, self._header().pack())
        self._file.write(0, footer)
        self._file.publish()

    def abort(self) -> None:
        self._file.discard()

    def _pieces(self, offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int, int]]:
        """The range block by block: number, offset in the block, offset in the range, length."""
        if self._parent and (offset_bytes | length_bytes) % SECTOR_BYTES:
            raise ValueError("a differencing disk takes whole sectors")
        start = 0
        while start < length_bytes:
            block, within = divmod(offset_bytes + start, self._block_bytes)
            length = min(self._block_bytes - within, length_bytes - start)
            yield block, within, start, length
            start += length

    def _take(self, block: int, within: int, length_bytes: int) -> int:
        """Where the block's data is, placing it if need be; a range of it is now this disk's own."""
        with self._placing:
            if self._table[block] == ABSENT:
                self._place(block)
            start = int(self._table[block]) * SECTOR_BYTES
            if self._parent:
                self._mark(start, within // SECTOR_BYTES, length_bytes // SECTOR_BYTES)
        return start + self._bitmap_bytes

    def _place(self, block: int) -> None:
        start = self._end_bytes + -(self._end_bytes + self._bitmap_bytes) % _DATA_ALIGNMENT_BYTES
        if not self._parent:
            self._file.write(start, b"\xff" * self._bitmap_bytes)
        self._table[block] = start // SECTOR_BYTES
        self._end_bytes = start + self._bitmap_bytes + self._block_bytes

    def _mark(self, bitmap_offset: int, first: int, count: int) -> None:
        """Set the bits of some sectors, most significant bit first."""
        low, high = first // 8, -(-(first + count) // 8)
        with writing(self._file.path):
            stored = os.pread(self._file.descriptor, high - low, bitmap_offset + low).ljust(high - low, b"\0")
        bits = np.unpackbits(np.frombuffer(stored, dtype=np.uint8))
        bits[first - 8 * low : first - 8 * low + count] = 1
        self._file.write(bitmap_offset + low, np.packbits(bits).tobytes())

    def _header(self) -> DynamicHeader:
        shape = DynamicHeader(_TABLE_OFFSET, len(self._table), self._block_bytes)
        if not self._parent:
            return shape
        path = LocatorEntry(
            RELATIVE, _whole_sectors(len(self._locator_path)), len(self._locator_path), self._locator_offset
        )
        return DynamicHeader(
            shape.table_offset_bytes,
            shape.table_entries,
            shape.block_bytes,
            parent_id=self._parent.disk.unique_id,
            parent_name=self._parent.path.name,
            locators=(path, *[LocatorEntry()] * (LOCATOR_COUNT - 1)),
        )


def _whole_sectors(length_bytes: int) -> int:
    return -(-length_bytes // SECTOR_BYTES) * SECTOR_BYTES


def _locator_path(child: Path, parent: Parent | None) -> bytes:
    """The parent's path relative to the child's folder, as a ``W2ru`` locator holds it."""
    if parent is None:
        return b""
    relative = os.path.relpath(parent.path.resolve(), child.resolve().parent)
    return relative_windows_path(PurePath(relative)).encode("utf-16-le")
