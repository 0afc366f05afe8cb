"""Comparing two still disks byte for byte, without reading what both know to be zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stillframe.disk.read_ahead import ahead, pieces
from stillframe.disk.still import Extent, ExtentKind, StillDisk
from stillframe.progress import NoProgress, Progress

_NO_PROGRESS = NoProgress()


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range within which neither disk changes its kind of extent."""

    extent: Extent
    first_is_data: bool
    second_is_data: bool


def compare_disks(first: StillDisk, second: StillDisk, progress: Progress = _NO_PROGRESS) -> int | None:
    """The offset in bytes of the first difference, or None if the disks are equal.

    Disks of different sizes are never equal: if all that both have is equal, the answer is the smaller size.

    Raises:
        CorruptInputError: a disk is damaged.
    """
    shorter, longer = sorted((first.geometry.size_bytes, second.geometry.size_bytes))
    progress.begin("comparing", shorter)

    def difference(piece: _Piece) -> int | None:
        return _first_difference(
            _contents(first, piece.extent, piece.first_is_data),
            _contents(second, piece.extent, piece.second_is_data),
        )

    for piece, found in ahead(difference, _pieces(first, second, progress)):
        if found is not None:
            return piece.extent.offset_bytes + found
        progress.advance(piece.extent.length_bytes)
    return shorter if shorter != longer else None


def _pieces(first: StillDisk, second: StillDisk, progress: Progress) -> Iterator[_Piece]:
    for piece in _overlaps(first.extents(), second.extents()):
        if not (piece.first_is_data or piece.second_is_data):
            progress.advance(piece.extent.length_bytes)
            continue
        for part in pieces([piece.extent]):
            yield _Piece(part, piece.first_is_data, piece.second_is_data)


def _overlaps(first: Iterator[Extent], second: Iterator[Extent]) -> Iterator[_Piece]:
    """Lay two lists of extents over each other, up to where the shorter ends."""
    left, right = next(first, None), next(second, None)
    position = 0
    while left and right:
        end = min(left.end_bytes, right.end_bytes)
        kinds = left.kind is ExtentKind.DATA, right.kind is ExtentKind.DATA
        yield _Piece(Extent(position, end - position), *kinds)
        position = end
        if left.end_bytes == end:
            left = next(first, None)
        if right.end_bytes == end:
            right = next(second, None)


def _contents(disk: StillDisk, extent: Extent, is_data: bool) -> bytearray:
    buffer = bytearray(extent.length_bytes)
    if is_data:
        disk.read_into(extent.offset_bytes, memoryview(buffer))
    return buffer


def _first_difference(first: bytearray, second: bytearray) -> int | None:
    if first == second:
        return None
    low, high = 0, len(first)  # first[:low] == second[:low], first[:high] != second[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle
    return low
