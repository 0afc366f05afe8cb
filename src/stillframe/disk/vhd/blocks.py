"""Dynamic and differencing disks: blocks where the table puts them, the rest zero or the parent's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from stillframe.disk.facts import FormatFacts
from stillframe.disk.ranges import check_range, fill_zeros
from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.runs import runs
from stillframe.disk.still import Extent, ExtentKind
from stillframe.disk.vhd.bat import ABSENT, Region, bitmap_bytes, check_table, read_table
from stillframe.disk.vhd.disk import VhdDisk
from stillframe.disk.vhd.dynamic_header import HEADER_BYTES, DynamicHeader
from stillframe.disk.vhd.footer import FOOTER_BYTES, SECTOR_BYTES, FoundFooter

_CACHED_BITMAPS = 64  # at most 64 KiB each, 4 MiB together


class BlockVhd(VhdDisk):
    """A dynamic disk, or a differencing one on top of ``parent``."""

    def __init__(
        self, reader: RandomReader, found: FoundFooter, header: DynamicHeader, parent: VhdDisk | None
    ) -> None:
        """Own ``reader`` and ``parent``, whose identity has been checked, unless this fails.

        Raises:
            CorruptInputError: the block allocation table breaks the rules.
        """
        super().__init__(reader, found)
        self._header = header
        self._parent = parent
        self._block_bytes = header.block_bytes
        self._bitmap_bytes = bitmap_bytes(header.block_bytes)
        self._table = read_table(reader, header.table_offset_bytes, -(-self._size_bytes // self._block_bytes))
        self._check_table()
        self._bitmap = lru_cache(_CACHED_BITMAPS)(self._read_bitmap)

    @property
    def _size_bytes(self) -> int:
        return self._geometry.size_bytes

    def _check_table(self) -> None:
        header, footer_offset = self._header.table_offset_bytes, self._found.offset_bytes
        at_header = self._found.footer.header_offset_bytes
        check_table(
            self._table,
            block_bytes=self._block_bytes,
            visible_last_bytes=(self._size_bytes - 1) % self._block_bytes + 1,
            file_bytes=footer_offset or self._reader.size_bytes,
            regions=(
                Region("copy of the footer", 0, FOOTER_BYTES),
                Region("dynamic disk header", at_header, at_header + HEADER_BYTES),
                Region("block allocation table", header, header + 4 * len(self._table)),
            ),
            where=f"{self.name}: block allocation table at {header}",
        )

    @property
    def disk_id(self) -> str:
        """The id of the chain's first disk: a checkpoint does not make it another disk."""
        return self._parent.disk_id if self._parent else super().disk_id

    @property
    def facts(self) -> FormatFacts:
        below = self._parent.facts if self._parent else None
        return FormatFacts(
            "vhd",
            "differencing" if below else "dynamic",
            block_bytes=self._block_bytes,
            creator=self._creator(),
            parents=(self._parent.name, *below.parents) if self._parent and below else (),
            notes=(*self._notes(), *(f"parent: {note}" for note in below.notes)) if below else self._notes(),
        )

    def close(self) -> None:
        super().close()
        if self._parent:
            self._parent.close()

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        check_range(self._geometry, offset_bytes, len(buffer))
        done = 0
        while done < len(buffer):
            block, within = divmod(offset_bytes + done, self._block_bytes)
            length = min(self._block_bytes - within, len(buffer) - done)
            self._read_from_block(block, within, buffer[done : done + length])
            done += length

    def _read_from_block(self, block: int, within: int, buffer: memoryview) -> None:
        if self._is_absent(block):
            self._read_below(block * self._block_bytes + within, buffer)
        elif self._parent is None:
            # The data of a dynamic disk is valid whatever its bitmap says: clear bits are zeros or unwritten.
            self._reader.read_into(self._data_offset(block) + within, buffer)
        else:
            self._read_by_bitmap(block, within, buffer)

    def _read_by_bitmap(self, block: int, within: int, buffer: memoryview) -> None:
        for start, stop, here in self._sector_runs(block, within, within + len(buffer)):
            piece = buffer[start - within : stop - within]
            if here:
                self._reader.read_into(self._data_offset(block) + start, piece)
            else:
                self._read_below(block * self._block_bytes + start, piece)

    def _read_below(self, offset_bytes: int, buffer: memoryview) -> None:
        """What lies under this disk: the parent, and zeros where there is none or beyond its end."""
        present = 0
        if self._parent:
            present = max(0, min(len(buffer), self._parent.geometry.size_bytes - offset_bytes))
        if self._parent and present:
            self._parent.read_into(offset_bytes, buffer[:present])
        fill_zeros(buffer[present:])

    def extents_within(self, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
        first, last = start_bytes // self._block_bytes, -(-end_bytes // self._block_bytes)
        for start, stop, present in runs(self._table[first:last] != ABSENT):
            low = max(start_bytes, (first + start) * self._block_bytes)
            high = min(end_bytes, (first + stop) * self._block_bytes)
            if not present:
                yield from self._extents_below(low, high)
            elif self._parent is None:
                yield Extent(low, high - low)
            else:
                yield from self._extents_by_bitmap(low, high)

    def _extents_by_bitmap(self, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
        for block in range(start_bytes // self._block_bytes, -(-end_bytes // self._block_bytes)):
            base = block * self._block_bytes
            low, high = max(start_bytes, base), min(end_bytes, base + self._block_bytes)
            for start, stop, here in self._sector_runs(block, low - base, high - base):
                if here:
                    yield Extent(base + start, stop - start)
                else:
                    yield from self._extents_below(base + start, base + stop)

    def _extents_below(self, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
        split = start_bytes
        if self._parent:
            split = max(start_bytes, min(end_bytes, self._parent.geometry.size_bytes))
        if self._parent and split > start_bytes:
            yield from self._parent.extents_within(start_bytes, split)
        if end_bytes > split:
            yield Extent(split, end_bytes - split, ExtentKind.UNMAPPED)

    def _is_absent(self, block: int) -> bool:
        return int(self._table[block]) == ABSENT

    def _data_offset(self, block: int) -> int:
        return int(self._table[block]) * SECTOR_BYTES + self._bitmap_bytes

    def _sector_runs(self, block: int, start_bytes: int, stop_bytes: int) -> Iterator[tuple[int, int, int]]:
        """Runs of sectors that this file holds or does not, as byte ranges of the block."""
        first, last = start_bytes // SECTOR_BYTES, -(-stop_bytes // SECTOR_BYTES)
        flags = np.unpackbits(self._bitmap(block)[first // 8 : -(-last // 8)])  # most significant bit first
        skip = first % 8
        for start, stop, here in runs(flags[skip : skip + last - first]):
            low, high = (first + start) * SECTOR_BYTES, (first + stop) * SECTOR_BYTES
            yield max(low, start_bytes), min(high, stop_bytes), here

    def _read_bitmap(self, block: int) -> npt.NDArray[np.uint8]:
        offset = int(self._table[block]) * SECTOR_BYTES
        return np.frombuffer(read_bytes(self._reader, offset, self._bitmap_bytes), dtype=np.uint8)
