"""The block allocation table: for each block, the sector where its bitmap and data begin, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillframe.disk.reader import RandomReader
from stillframe.disk.vhd.footer import SECTOR_BYTES
from stillframe.errors import CorruptInputError

ABSENT = 0xFFFF_FFFF
Table = npt.NDArray[np.uint32]


def bitmap_bytes(block_bytes: int) -> int:
    """Length of a block's sector bitmap: one bit a sector, padded to whole sectors."""
    bits = block_bytes // SECTOR_BYTES
    return -(-bits // (8 * SECTOR_BYTES)) * SECTOR_BYTES


def read_table(reader: RandomReader, offset_bytes: int, blocks: int) -> Table:
    """The table of a disk's blocks in this machine's byte order; the caller has bounded ``blocks``."""
    stored = np.empty(blocks, dtype=">u4")
    reader.read_into(offset_bytes, memoryview(stored.view(np.uint8)))  # type: ignore[arg-type]
    return stored.astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Region:
    """A named part of the file that no block may share."""

    name: str
    start_bytes: int
    end_bytes: int


def check_table(
    table: Table,
    *,
    block_bytes: int,
    visible_last_bytes: int,
    file_bytes: int,
    regions: Sequence[Region],
    where: str,
) -> None:
    """Refuse a table whose blocks leave the file or share space with each other or with ``regions``.

    ``visible_last_bytes`` is how much of the last block the disk shows; the rest may be cut off.

    Raises:
        CorruptInputError: naming the block and its offset.
    """
    starts = np.sort(table[table != ABSENT])
    if not starts.size:
        return
    span_sectors = (bitmap_bytes(block_bytes) + block_bytes) // SECTOR_BYTES
    for region in regions:
        _check_region(starts, span_sectors, region, where)
    _check_overlap(starts, span_sectors, where)
    _check_end(table, int(starts[-1]), block_bytes, visible_last_bytes, file_bytes, where)


def _check_overlap(starts: Table, span_sectors: int, where: str) -> None:
    # Sorted, so a neighbour is the nearest; the subtraction of unsigned neighbours cannot wrap.
    for first in range(0, len(starts) - 1, 1 << 16):
        piece = starts[first : first + (1 << 16) + 1]
        close = np.flatnonzero(piece[1:] - piece[:-1] < span_sectors)
        if close.size:
            offset = int(piece[close[0] + 1]) * SECTOR_BYTES
            raise CorruptInputError(f"{where}: two blocks share the space at {offset}")


def _check_region(starts: Table, span_sectors: int, region: Region, where: str) -> None:
    end_sector = -(-region.end_bytes // SECTOR_BYTES)
    start_sector = region.start_bytes // SECTOR_BYTES
    index = (
        int(np.searchsorted(starts, np.uint64(end_sector))) - 1
    )  # the last block that begins before its end
    if index >= 0 and int(starts[index]) + span_sectors > start_sector:
        offset = int(starts[index]) * SECTOR_BYTES
        raise CorruptInputError(f"{where}: the block at {offset} lies over the {region.name}")


def _check_end(
    table: Table, last_start: int, block_bytes: int, visible_last_bytes: int, file_bytes: int, where: str
) -> None:
    needed = visible_last_bytes if int(table[-1]) == last_start else block_bytes
    if last_start * SECTOR_BYTES + bitmap_bytes(block_bytes) + needed > file_bytes:
        offset = last_start * SECTOR_BYTES
        raise CorruptInputError(
            f"{where}: the block at {offset} goes beyond the end of the file ({file_bytes})"
        )
