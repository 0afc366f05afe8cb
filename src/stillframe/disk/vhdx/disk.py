"""A VHDX disk as its guest sees it: a still disk over a file and its chain of parents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from uuid import UUID

from stillframe.disk.ranges import Untracked, check_range, fill_zeros
from stillframe.disk.reader import RandomReader
from stillframe.disk.still import Extent, ExtentKind, Geometry, joined
from stillframe.disk.vhdx.bat import BlockRun, PayloadState
from stillframe.disk.vhdx.chain import close_parents, open_chain
from stillframe.disk.vhdx.image import Image
from stillframe.disk.vhdx.info import VhdxInfo, describe


class Origin(Enum):
    """Where a piece of the disk comes from."""

    FILE = auto()
    PARENT = auto()
    ZERO = auto()
    UNMAPPED = auto()


_KINDS = {
    Origin.FILE: ExtentKind.DATA,
    Origin.ZERO: ExtentKind.ZERO,
    Origin.UNMAPPED: ExtentKind.UNMAPPED,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of the disk with one origin; ``file_offset_bytes`` is meant only for those from the file."""

    start_bytes: int
    end_bytes: int
    origin: Origin
    file_offset_bytes: int = 0

    def as_extent(self) -> Extent:
        return Extent(self.start_bytes, self.end_bytes - self.start_bytes, _KINDS[self.origin])


def open_vhdx(reader: RandomReader, *, path: Path | None, search: Sequence[Path] = ()) -> VhdxDisk:
    """Open a VHDX file with its parents; a log that must be replayed is replayed in memory.

    ``path`` is where ``reader``'s file lies; without it no parent can be found. Parents must lie, all links
    resolved, in their child's own folder or in those of ``search``. The disk owns ``reader`` from here on;
    after an error the caller still does.

    Raises:
        CorruptInputError: a file breaks the rules of its format, or is not the parent that its child names.
        UnsupportedError: a file needs something that this reader does not know, or more than it allows.
        ParentNotFoundError: a parent is not where it may be looked for.
    """
    images = open_chain(reader, path, search)
    return VhdxDisk(images)


class VhdxDisk(Untracked):
    """Implements ``StillDisk``. Every method may be called from several threads at once."""

    def __init__(self, images: Sequence[Image]) -> None:
        """``images`` is the chain, child first; it is not empty."""
        self._images = tuple(images)
        self._image = images[0]
        self._parent = VhdxDisk(images[1:]) if len(images) > 1 else None

    @property
    def path(self) -> Path | None:
        return self._image.path

    @property
    def info(self) -> VhdxInfo:
        return describe(self._images)

    @property
    def disk_id(self) -> str:
        """The virtual disk id (SCSI page 83); it stays when the file is copied, converted or merged."""
        return str(self._image.metadata.disk_id)

    @property
    def data_write_id(self) -> UUID:
        """Names the disk's contents: a new one with every change. Children are bound to it."""
        return self._image.header.data_write_id

    @property
    def geometry(self) -> Geometry:
        return self._image.metadata.geometry

    def extents(self) -> Iterator[Extent]:
        return joined(self._extents(0, self.geometry.size_bytes))

    def own_extents(self) -> Iterator[Extent]:
        """What this file itself holds, ascending, with gaps where its parent shows through.

        For a differencing disk: what changed since it was made. Without a parent: the same as ``extents``.
        """
        pieces = self._pieces(0, self.geometry.size_bytes)
        return joined(piece.as_extent() for piece in pieces if piece.origin is not Origin.PARENT)

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        check_range(self.geometry, offset_bytes, len(buffer))
        for piece in self._coalesced(offset_bytes, offset_bytes + len(buffer)):
            part = buffer[piece.start_bytes - offset_bytes : piece.end_bytes - offset_bytes]
            if piece.origin is Origin.FILE:
                self._image.reader.read_into(piece.file_offset_bytes, part)
            elif piece.origin is Origin.PARENT and self._parent:
                self._parent._read_as_parent(piece.start_bytes, part)
            else:
                fill_zeros(part)

    def close(self) -> None:
        close_parents(self._images)
        self._image.reader.close()

    def _extents(self, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
        for piece in self._pieces(start_bytes, end_bytes):
            if piece.origin is Origin.PARENT and self._parent:
                yield from self._parent._extents_as_parent(piece.start_bytes, piece.end_bytes)
            else:
                yield piece.as_extent()

    def _extents_as_parent(self, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
        """A child may be larger than its parent; behind the parent's end there was never anything."""
        here = min(max(start_bytes, self.geometry.size_bytes), end_bytes)
        if start_bytes < here:
            yield from self._extents(start_bytes, here)
        if here < end_bytes:
            yield Extent(here, end_bytes - here, ExtentKind.UNMAPPED)

    def _read_as_parent(self, offset_bytes: int, buffer: memoryview) -> None:
        here = min(max(self.geometry.size_bytes - offset_bytes, 0), len(buffer))
        if here:
            self.read_into(offset_bytes, buffer[:here])
        fill_zeros(buffer[here:])

    def _coalesced(self, start_bytes: int, end_bytes: int) -> Iterator[Piece]:
        """Pieces, with those joined that one read of the file can serve."""
        pending: Piece | None = None
        for piece in self._pieces(start_bytes, end_bytes):
            if pending and _one_read(pending, piece):
                pending = Piece(pending.start_bytes, piece.end_bytes, piece.origin, pending.file_offset_bytes)
                continue
            if pending:
                yield pending
            pending = piece
        if pending:
            yield pending

    def _pieces(self, start_bytes: int, end_bytes: int) -> Iterator[Piece]:
        block_bytes = self._image.metadata.block_bytes
        for run in self._image.bat.runs(start_bytes // block_bytes, -(-end_bytes // block_bytes)):
            start = max(start_bytes, run.first_block * block_bytes)
            end = min(end_bytes, run.end_block * block_bytes)
            file_offset = run.file_offset_bytes + start - run.first_block * block_bytes
            if run.state is PayloadState.PARTIALLY_PRESENT:
                yield from self._sector_pieces(start, end, file_offset)
            else:
                yield Piece(start, end, self._origin(run), file_offset)

    def _origin(self, run: BlockRun) -> Origin:
        if run.state is PayloadState.FULLY_PRESENT:
            return Origin.FILE
        if run.state is PayloadState.NOT_PRESENT and self._parent:
            return Origin.PARENT
        return Origin.ZERO if run.state is PayloadState.ZERO else Origin.UNMAPPED

    def _sector_pieces(self, start_bytes: int, end_bytes: int, file_offset_bytes: int) -> Iterator[Piece]:
        """A range within one block, by its sector bitmap; its start lies at the offset in the file."""
        sector_bytes = self.geometry.logical_sector_bytes
        first, last = start_bytes // sector_bytes, -(-end_bytes // sector_bytes)
        for first_sector, end_sector, here in self._image.bitmaps.runs(first, last):
            start = max(start_bytes, first_sector * sector_bytes)
            end = min(end_bytes, end_sector * sector_bytes)
            origin = Origin.FILE if here else Origin.PARENT
            yield Piece(start, end, origin, file_offset_bytes + start - start_bytes)


def _one_read(before: Piece, after: Piece) -> bool:
    if before.origin is not after.origin:
        return False
    distance = after.file_offset_bytes - before.file_offset_bytes
    return before.origin is not Origin.FILE or distance == after.start_bytes - before.start_bytes
