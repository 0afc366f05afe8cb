"""Writing a VHDX file: a disk target that takes writes in any order and from several threads.

Nothing is held in memory: data goes to its block's slot at once, the BAT and the sector bitmaps live in the
file from the beginning. The file is made under a temporary name; headers and identifier, which make it a
VHDX, come last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock
from uuid import UUID, uuid4

import numpy as np

from stillframe.disk.ranges import check_range
from stillframe.disk.staged import StagedFile, writing
from stillframe.disk.still import MAX_DISK_BYTES, SECTOR_SIZES, Extent, Geometry
from stillframe.disk.vhdx.bat import OFFSET_MASK, STATE_MASK, BatShape, PayloadState
from stillframe.disk.vhdx.bitmap_writer import BitmapWriter
from stillframe.disk.vhdx.block_table import MAYBE_ZERO, BlockTable
from stillframe.disk.vhdx.disk import VhdxDisk
from stillframe.disk.vhdx.info import DiskKind
from stillframe.disk.vhdx.layout import MIB
from stillframe.disk.vhdx.locator import LINKAGE, RELATIVE_PATH, encode_locator, linkage_text
from stillframe.disk.vhdx.metadata import MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, Metadata, encode_metadata
from stillframe.disk.vhdx.plan import FilePlan, write_headers, write_regions
from stillframe.disk.vhdx.settling import (
    chunks,
    contents_digest,
    derived_id,
    drop_zero_blocks,
    fill_fixed,
    publish_bitmaps,
    sort_blocks,
)
from stillframe.disk.zeroing import zero_range
from stillframe.errors import UsageError

DEFAULT_BLOCK_BYTES = 32 * MIB  # Windows' own default for dynamic disks


def create_vhdx(
    path: Path,
    geometry: Geometry,
    *,
    kind: DiskKind | str = DiskKind.DYNAMIC,
    block_size_bytes: int = DEFAULT_BLOCK_BYTES,
    disk_id: UUID | None = None,
    parent: VhdxDisk | None = None,
    parent_path: Path | None = None,
    deterministic: bool = False,
) -> VhdxTarget:
    """Begin a VHDX file; it appears as ``path`` when the target is finished.

    ``disk_id`` is the virtual disk id: by default the parent's, or a new one. A differencing disk needs
    ``parent``, to whose contents it is bound, and finds it by its path relative to ``path``;
    ``parent_path`` is where the parent will lie, if that is not where it was opened from.

    ``deterministic`` makes the same contents give the same bytes: ids are derived from the contents, which
    are read once more for that, and blocks are brought into the order of the disk.

    Raises:
        UsageError: ``path`` exists, or no VHDX can be like this.
        CannotWriteError: the folder cannot be written to.
    """
    _check(geometry, block_size_bytes)
    disk_kind = _kind(kind, parent)
    metadata = Metadata(
        block_bytes=block_size_bytes,
        leave_blocks_allocated=disk_kind is DiskKind.FIXED,
        geometry=geometry,
        disk_id=disk_id or (UUID(parent.disk_id) if parent else UUID(int=0)),
        parent_locator=_locator(path, parent, parent_path) if parent else None,
    )
    if parent and parent.geometry.logical_sector_bytes != geometry.logical_sector_bytes:
        raise UsageError(
            f"{path}: a child has its parent's sector size, {parent.geometry.logical_sector_bytes}"
        )
    return VhdxTarget(StagedFile(path), metadata, deterministic=deterministic)


class VhdxTarget:
    """Implements ``DiskTarget``. A differencing disk takes whole sectors only."""

    def __init__(self, file: StagedFile, metadata: Metadata, *, deterministic: bool) -> None:
        """``metadata`` with a disk id of zero gets a new one when the file is finished."""
        shape = BatShape(metadata.geometry, metadata.block_bytes, metadata.has_parent)
        self._file = file
        self._metadata = metadata
        self._deterministic = deterministic
        self._shape = shape
        self._plan = FilePlan(shape)
        self._table = BlockTable(file, shape)
        self._bitmaps = BitmapWriter(file, self._plan)
        self._slots = 0
        self._lock = Lock()  # around changes of BAT, bitmaps and slots; data is written outside of it

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None:
        view = memoryview(data).cast("B")
        self._check_range(offset_bytes, len(view))
        for block, start, end in self._portions(offset_bytes, offset_bytes + len(view)):
            portion = view[start - offset_bytes : end - offset_bytes]
            if np.frombuffer(portion, np.uint8).any():
                self._write_block(block, start, end, portion)
            else:
                self._zero_block(block, start, end)

    def zero(self, extent: Extent) -> None:
        self._check_range(extent.offset_bytes, extent.length_bytes)
        if extent.length_bytes == 0:
            return
        first, end = self._whole_blocks(extent.offset_bytes, extent.end_bytes)
        if first >= end:
            self._zero_portions(extent.offset_bytes, extent.end_bytes)
            return
        block_bytes = self._shape.block_bytes
        self._zero_portions(extent.offset_bytes, first * block_bytes)
        self._zero_portions(end * block_bytes, extent.end_bytes)
        for _, chunk_first, chunk_end in chunks(self._shape):
            if chunk_first < end and chunk_end > first:
                self._zero_whole_blocks(max(first, chunk_first), min(end, chunk_end))

    def finish(self) -> None:
        """Settle the maps, make everything durable, then give the file its name.

        Raises:
            CannotWriteError: the file could not be written, or ``path`` exists by now.
        """
        slots = self._settle()
        size_bytes = self._plan.slot_offset(slots)
        self._file.resize(size_bytes)
        digest = self._digest(size_bytes)
        write_regions(self._file, self._plan, self._with_disk_id(digest))
        with writing(self._file.path):
            os.fsync(self._file.descriptor)
        write_headers(self._file, _new_id(digest, "file write"), _new_id(digest, "data write"))
        self._file.publish()

    def abort(self) -> None:
        self._file.discard()

    def _settle(self) -> int:
        """Bring the maps into their final form; returns the number of slots."""
        if self._metadata.leave_blocks_allocated:
            fill_fixed(self._table, self._plan)
            return self._shape.payload_blocks
        drop_zero_blocks(self._file, self._table, self._plan)
        if self._deterministic:
            self._slots = sort_blocks(self._file, self._table, self._plan)
        if self._shape.has_parent:
            publish_bitmaps(self._table, self._plan)
        return self._slots

    def _digest(self, size_bytes: int) -> str | None:
        if not self._deterministic:
            return None
        return contents_digest(self._file, size_bytes, encode_metadata(self._metadata))

    def _with_disk_id(self, digest: str | None) -> Metadata:
        if self._metadata.disk_id.int:
            return self._metadata
        return replace(self._metadata, disk_id=_new_id(digest, "virtual disk"))

    def _write_block(self, block: int, start: int, end: int, data: memoryview) -> None:
        with self._lock:
            entry = self._claim(block, whole=self._is_whole(block, start, end))
        self._file.write((entry & OFFSET_MASK) + start - block * self._shape.block_bytes, data)
        if entry & STATE_MASK == PayloadState.PARTIALLY_PRESENT:
            self._mark_sectors(block, start, end)

    def _zero_block(self, block: int, start: int, end: int) -> None:
        """Within one block; what reads as zero already is left alone."""
        whole = self._is_whole(block, start, end)
        index = self._shape.payload_index(block)
        with self._lock:
            before = PayloadState(self._table.get(index) & STATE_MASK)
            if before is PayloadState.ZERO or (
                before is PayloadState.NOT_PRESENT and not self._shape.has_parent
            ):
                return
            if before is PayloadState.NOT_PRESENT and whole:
                self._table.set(index, PayloadState.ZERO)
                return
            entry = self._claim(block, whole=whole) | MAYBE_ZERO
            self._table.set(index, entry)
        if before is not PayloadState.NOT_PRESENT:  # a new slot is zero
            offset_bytes = (entry & OFFSET_MASK) + start - block * self._shape.block_bytes
            with writing(self._file.path):
                zero_range(self._file.descriptor, offset_bytes, end - start)
        if entry & STATE_MASK == PayloadState.PARTIALLY_PRESENT:
            self._mark_sectors(block, start, end)

    def _zero_portions(self, start_bytes: int, end_bytes: int) -> None:
        for block, start, end in self._portions(start_bytes, end_bytes):
            self._zero_block(block, start, end)

    def _zero_whole_blocks(self, first: int, end: int) -> None:
        """Within one chunk. Absent blocks, of which there may be millions, are dealt with at once."""
        with self._lock:
            entries = self._table.payload(first, end)
            absent = entries == PayloadState.NOT_PRESENT
            if self._shape.has_parent and absent.any():
                entries[absent] = PayloadState.ZERO
                self._table.set_payload(first, entries)
        block_bytes = self._shape.block_bytes
        for index in np.flatnonzero((entries & np.uint64(STATE_MASK)) >= PayloadState.FULLY_PRESENT).tolist():
            block = first + index
            start = block * block_bytes
            self._zero_block(block, start, start + self._shape.visible_bytes(block))

    def _claim(self, block: int, *, whole: bool) -> int:
        """The block's entry, made present if it was not; the lock is held."""
        index = self._shape.payload_index(block)
        entry = self._table.get(index)
        state = PayloadState(entry & STATE_MASK)
        if state is PayloadState.FULLY_PRESENT or (state is PayloadState.PARTIALLY_PRESENT and not whole):
            return entry
        if state is PayloadState.PARTIALLY_PRESENT:
            self._bitmaps.clear(block)
        else:
            entry = self._new_slot(block)
        parent_shows = self._shape.has_parent and state is PayloadState.NOT_PRESENT and not whole
        now = PayloadState.PARTIALLY_PRESENT if parent_shows else PayloadState.FULLY_PRESENT
        entry = entry & ~STATE_MASK | now
        self._table.set(index, entry)
        return entry

    def _new_slot(self, block: int) -> int:
        if self._metadata.leave_blocks_allocated:
            return self._plan.slot_offset(block)
        self._slots += 1
        return self._plan.slot_offset(self._slots - 1)

    def _mark_sectors(self, block: int, start: int, end: int) -> None:
        """After partial data is in its place; a block whose last sector came needs no bitmap any more."""
        sector_bytes = self._shape.geometry.logical_sector_bytes
        with self._lock:
            self._bitmaps.set(start // sector_bytes, end // sector_bytes)
            if self._bitmaps.is_full(block):
                self._claim(block, whole=True)

    def _portions(self, start_bytes: int, end_bytes: int) -> Iterator[tuple[int, int, int]]:
        """``(block, start, end)`` of the range, cut at the borders of blocks."""
        block_bytes = self._shape.block_bytes
        while start_bytes < end_bytes:
            block = start_bytes // block_bytes
            end = min(end_bytes, (block + 1) * block_bytes)
            yield block, start_bytes, end
            start_bytes = end

    def _whole_blocks(self, start_bytes: int, end_bytes: int) -> tuple[int, int]:
        """First and end of the blocks that lie in the range whole, so far as they are visible."""
        block_bytes = self._shape.block_bytes
        at_end = end_bytes == self._shape.geometry.size_bytes
        return -(
            -start_bytes // block_bytes
        ), self._shape.payload_blocks if at_end else end_bytes // block_bytes

    def _is_whole(self, block: int, start: int, end: int) -> bool:
        return end - start == self._shape.visible_bytes(block)

    def _check_range(self, offset_bytes: int, length_bytes: int) -> None:
        check_range(self._shape.geometry, offset_bytes, length_bytes)
        sector_bytes = self._shape.geometry.logical_sector_bytes
        if self._shape.has_parent and (offset_bytes % sector_bytes or length_bytes % sector_bytes):
            raise ValueError(f"{offset_bytes}+{length_bytes}: a differencing disk takes whole sectors only")


def _new_id(digest: str | None, purpose: str) -> UUID:
    return uuid4() if digest is None else derived_id(digest, purpose)


def _check(geometry: Geometry, block_bytes: int) -> None:
    sectors = geometry.logical_sector_bytes, geometry.physical_sector_bytes
    if any(sector not in SECTOR_SIZES for sector in sectors):
        raise UsageError(f"sector sizes {sectors}: a VHDX has 512 or 4096")
    if geometry.size_bytes % sectors[0] or not 0 < geometry.size_bytes <= MAX_DISK_BYTES:
        raise UsageError(f"a VHDX of {geometry.size_bytes} bytes: not whole sectors, up to 64 TiB")
    if not MIN_BLOCK_BYTES <= block_bytes <= MAX_BLOCK_BYTES or block_bytes & (block_bytes - 1):
        raise UsageError(f"block size {block_bytes}: a VHDX has a power of two from 1 to 256 MiB")


def _kind(kind: DiskKind | str, parent: VhdxDisk | None) -> DiskKind:
    if kind not in list(DiskKind):
        raise UsageError(f"{kind!r} is no kind of VHDX; there are {', '.join(DiskKind)}")
    if (kind == DiskKind.DIFFERENCING) != (parent is not None):
        raise UsageError("a differencing disk, and no other, has a parent")
    return DiskKind(kind)


def _locator(path: Path, parent: VhdxDisk, parent_path: Path | None) -> bytes:
    where = parent_path or parent.path
    if where is None:
        raise UsageError(f"{path}: a differencing disk must know the path of its parent")
    relative = os.path.relpath(where.resolve(), path.parent.resolve()).replace("/", "\\")
    named = relative if relative.startswith("..") else f".\\{relative}"
    return encode_locator({LINKAGE: linkage_text(parent.data_write_id), RELATIVE_PATH: named})
