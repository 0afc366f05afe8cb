"""No two things may share a place in the file: log, regions, payload blocks, sector bitmaps.

A file in which they do is corrupt or hostile: data would show through where it does not belong. All of them
lie on whole MiB, so one bit per MiB of the file decides, read page by page: 8 MiB for a disk of 64 TiB.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stillframe.disk.vhdx.bat import (
    BATCH_ENTRIES,
    BITMAP_PRESENT,
    OFFSET_MASK,
    RESERVED_MASK,
    STATE_MASK,
    Bat,
    Entries,
    PayloadState,
)
from stillframe.disk.vhdx.layout import MIB

_MARKED_AT_ONCE = 1 << 16

Flags = npt.NDArray[np.bool_]


class FileSpace:
    """Which MiB of a file are taken."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._taken = np.zeros(size_bytes // MIB // 8 + 1, np.uint8)

    def take(self, first_mib: int, length_mib: int) -> bool:
        """Take a range, unless a part of it is taken: then False."""
        return self.take_all(np.array([first_mib], np.uint64), length_mib)

    def take_all(self, firsts: Entries, length_mib: int) -> bool:
        """Take ranges of one length. The range must lie in the file."""
        ordered = np.sort(firsts)
        if (ordered[1:] - ordered[:-1] < length_mib).any():
            return False
        step = max(1, _MARKED_AT_ONCE // length_mib)
        lots = (ordered[at : at + step] for at in range(0, len(ordered), step))
        return all(self._take_mibs(lot, length_mib) for lot in lots)

    def _take_mibs(self, firsts: Entries, length_mib: int) -> bool:
        for start in range(0, length_mib, _MARKED_AT_ONCE):
            steps = np.arange(start, min(length_mib, start + _MARKED_AT_ONCE), dtype=np.uint64)
            mibs = (firsts[:, None] + steps).ravel()
            masks = np.left_shift(np.uint8(1), (mibs & np.uint64(7)).astype(np.uint8))
            places = (mibs >> np.uint64(3)).astype(np.int64)
            if (self._taken[places] & masks).any():
                return False
            np.bitwise_or.at(self._taken, places, masks)
        return True


def check_blocks(bat: Bat, space: FileSpace) -> None:
    """Check every entry in use: its state, its reserved bits, its place, and that nobody else has that place.

    Raises:
        BlockMapError: with the offset of the first bad entry that was found.
    """
    blocks = bat.shape.payload_blocks
    for first in range(0, blocks, BATCH_ENTRIES):
        entries = bat.payload(first, min(blocks, first + BATCH_ENTRIES))
        if (entries & STATE_MASK).any():
            _check_payload(bat, space, first, entries)
    if bat.shape.has_parent:
        for chunk in range(bat.shape.bitmap_blocks):
            _check_bitmap(bat, space, chunk)


def _check_payload(bat: Bat, space: FileSpace, first_block: int, entries: Entries) -> None:
    states = entries & STATE_MASK
    present = states >= PayloadState.FULLY_PRESENT
    _refuse(bat, first_block, (states == 4) | (states == 5), "has a reserved state (4 or 5)")
    _refuse(bat, first_block, present & (entries & RESERVED_MASK != 0), "has reserved bits set")
    partial = states == PayloadState.PARTIALLY_PRESENT
    if not bat.shape.has_parent:
        _refuse(bat, first_block, partial, "is partially present, but the disk has no parent")
    offsets = entries & np.uint64(OFFSET_MASK)
    visible = np.full(len(entries), bat.shape.block_bytes, np.uint64)
    visible[-1] = bat.shape.visible_bytes(first_block + len(entries) - 1)
    # An offset has at most 2^64 - 2^20, so compare without adding.
    outside = (offsets < MIB) | (offsets > space.size_bytes - np.minimum(visible, space.size_bytes))
    _refuse(bat, first_block, present & outside, f"lies outside the file of {space.size_bytes} bytes")
    _take_blocks(bat, space, first_block, present, offsets)
    for chunk in np.unique((np.flatnonzero(partial) + first_block) // bat.shape.chunk_ratio):
        bat.bitmap_offset(int(chunk))


def _take_blocks(bat: Bat, space: FileSpace, first_block: int, present: Flags, offsets: Entries) -> None:
    """The last block is taken on its own: the part of it that nobody sees may be missing from the file."""
    shape = bat.shape
    mibs = offsets // MIB
    last = shape.payload_blocks - 1 - first_block
    whole = present.copy()
    whole[last:] = False
    fits = space.take_all(mibs[whole], shape.block_bytes // MIB)
    if fits and last < len(present) and present[last]:
        fits = space.take(int(mibs[last]), -(-shape.visible_bytes(first_block + last) // MIB))
    if not fits:
        end_block = first_block + len(present) - 1
        what = f"a block between {first_block} and {end_block} shares its place with something else"
        raise bat.error(shape.payload_index(first_block), what)


def _check_bitmap(bat: Bat, space: FileSpace, chunk: int) -> None:
    entry = bat.bitmap_entry(chunk)
    if entry & STATE_MASK == PayloadState.NOT_PRESENT:
        return
    index = bat.shape.bitmap_index(chunk)
    if entry & STATE_MASK != BITMAP_PRESENT:
        raise bat.error(index, f"sector bitmap {chunk} has the reserved state {entry & STATE_MASK}")
    offset_bytes = entry & OFFSET_MASK
    if offset_bytes < MIB or offset_bytes + MIB > space.size_bytes:
        raise bat.error(index, f"sector bitmap {chunk} lies outside the file")
    if not space.take(offset_bytes // MIB, 1):
        raise bat.error(index, f"sector bitmap {chunk} shares its place with something else")


def _refuse(bat: Bat, first_block: int, wrong: Flags, what: str) -> None:
    found = np.flatnonzero(wrong)
    if len(found):
        block = first_block + int(found[0])
        raise bat.error(bat.shape.payload_index(block), f"block {block} {what}")
