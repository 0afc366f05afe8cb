"""Bringing a written file into its final form: blocks that became zero dropped, and, on demand, blocks in the
order of the disk and ids derived from the contents, so that the same contents give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid5

import numpy as np
from blake3 import blake3

from stillframe.disk.ranges import file_extents
from stillframe.disk.staged import StagedFile
from stillframe.disk.vhdx.bat import BITMAP_PRESENT, OFFSET_MASK, STATE_MASK, BatShape, Entries, PayloadState
from stillframe.disk.vhdx.block_table import MAYBE_ZERO, BlockTable, read_padded
from stillframe.disk.vhdx.layout import MIB
from stillframe.disk.vhdx.plan import BAT_OFFSET, FilePlan

_ZEROS = bytes(MIB)
_DERIVED_IDS = UUID("5d1c7d0b-6c55-4e1b-9a53-0c1c9b0b8f27")  # name space of uuid5, ours


def chunks(shape: BatShape) -> Iterator[tuple[int, int, int]]:
    """``(chunk, first block, end block)`` of the whole disk."""
    for chunk in range(shape.bitmap_blocks):
        first = chunk * shape.chunk_ratio
        yield chunk, first, min(first + shape.chunk_ratio, shape.payload_blocks)


def fill_fixed(table: BlockTable, plan: FilePlan) -> None:
    """Every block present, at its natural place."""
    for _, first, end in chunks(plan.shape):
        offsets = np.arange(first, end, dtype=np.uint64) * np.uint64(plan.shape.block_bytes)
        offsets += np.uint64(plan.payload_offset | PayloadState.FULLY_PRESENT)
        table.set_payload(first, offsets)


def drop_zero_blocks(file: StagedFile, table: BlockTable, plan: FilePlan) -> None:
    """Whole blocks that zeros were written over, and that hold nothing else, need no place in the file."""
    for _, first, end in chunks(plan.shape):
        entries = table.payload(first, end)
        marked = np.flatnonzero(entries & np.uint64(MAYBE_ZERO))
        for index in marked.tolist():
            entries[index] = _settled(file, plan.shape, int(entries[index]))
        if len(marked):
            table.set_payload(first, entries)


def publish_bitmaps(table: BlockTable, plan: FilePlan) -> None:
    """Give an entry to the bitmap of each chunk that has a partially present block."""
    for chunk, first, end in chunks(plan.shape):
        states = table.payload(first, end) & np.uint64(STATE_MASK)
        if (states == PayloadState.PARTIALLY_PRESENT).any():
            table.set(plan.shape.bitmap_index(chunk), plan.bitmap_offset(chunk) | BITMAP_PRESENT)


def sort_blocks(file: StagedFile, table: BlockTable, plan: FilePlan) -> int:
    """Bring the blocks into the order of the disk, without gaps; returns how many there are.

    Holds 16 bytes per present block. Blocks are swapped, piece by piece, where they are out of order.
    """
    slots = _slots(table, plan)
    _swap_into_order(file, plan, slots)
    placed = 0
    for _, first, end in chunks(plan.shape):
        entries = table.payload(first, end)
        present = _present(entries)
        count = int(np.count_nonzero(present))
        offsets = np.arange(placed, placed + count, dtype=np.uint64) * np.uint64(plan.shape.block_bytes)
        offsets += np.uint64(plan.payload_offset)
        entries[present] = (entries[present] & np.uint64(STATE_MASK)) | offsets
        if count:
            table.set_payload(first, entries)
        placed += count
    return placed


def contents_digest(file: StagedFile, end_bytes: int, described: bytes) -> str:
    """Names the contents: everything from the BAT on, zeros left out, and the given description."""
    digest = blake3(described)
    for offset_bytes in _data_mibs(file, BAT_OFFSET, end_bytes):
        piece = read_padded(file, offset_bytes, min(MIB, end_bytes - offset_bytes))
        if piece != _ZEROS[: len(piece)]:
            digest.update(offset_bytes.to_bytes(8, "little"))
            digest.update(piece)
    return digest.hexdigest()


def derived_id(digest: str, purpose: str) -> UUID:
    return uuid5(_DERIVED_IDS, f"{purpose} {digest}")


def _settled(file: StagedFile, shape: BatShape, entry: int) -> int:
    entry &= ~MAYBE_ZERO
    if entry & STATE_MASK != PayloadState.FULLY_PRESENT or not _is_zero(file, shape, entry & OFFSET_MASK):
        return entry
    return PayloadState.ZERO if shape.has_parent else PayloadState.NOT_PRESENT


def _is_zero(file: StagedFile, shape: BatShape, offset_bytes: int) -> bool:
    pieces = range(offset_bytes, offset_bytes + shape.block_bytes, MIB)
    return all(read_padded(file, at, MIB) == _ZEROS for at in pieces)


def _present(entries: Entries) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return (entries & np.uint64(STATE_MASK)) >= PayloadState.FULLY_PRESENT


def _slots(table: BlockTable, plan: FilePlan) -> list[int]:
    """The slots of all present blocks, in the order of the disk."""
    slots: list[int] = []
    for _, first, end in chunks(plan.shape):
        entries = table.payload(first, end)
        offsets = entries[_present(entries)] & np.uint64(OFFSET_MASK)
        slots += ((offsets - np.uint64(plan.payload_offset)) // np.uint64(plan.shape.block_bytes)).tolist()
    return slots


def _swap_into_order(file: StagedFile, plan: FilePlan, slots: list[int]) -> None:
    owner = {slot: index for index, slot in enumerate(slots) if slot != index}
    for index in range(len(slots)):
        current = slots[index]
        if current == index:
            continue
        _swap(file, plan, index, current)
        other = owner.pop(index, None)
        if other is not None:
            slots[other] = current
            owner[current] = other
        slots[index] = index


def _swap(file: StagedFile, plan: FilePlan, slot: int, other_slot: int) -> None:
    for at in range(0, plan.shape.block_bytes, MIB):
        here, there = plan.slot_offset(slot) + at, plan.slot_offset(other_slot) + at
        mine, others = read_padded(file, here, MIB), read_padded(file, there, MIB)
        if mine != others:
            file.write(here, others)
            file.write(there, mine)


def _data_mibs(file: StagedFile, start_bytes: int, end_bytes: int) -> Iterator[int]:
    """Offsets of the MiB that may hold data, ascending, by the file system's own map."""
    done = start_bytes
    for extent in file_extents(file.descriptor, start_bytes, end_bytes):
        if extent.kind == "data":
            first = max(done, extent.offset_bytes // MIB * MIB)
            done = max(done, -(-extent.end_bytes // MIB) * MIB)
            yield from range(first, done, MIB)
