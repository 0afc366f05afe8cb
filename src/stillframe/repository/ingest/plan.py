"""Which blocks to read, and what of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from stillframe.disk.still import Extent, ExtentKind, StillDisk
from stillframe.errors import UsageError
from stillframe.repository.nodes import MAX_PIECES, NodeEntry, PiecedBlock

BATCH_BYTES = 4 << 20
"""About so much is read at once and handed to one worker."""

_PIECE_ALIGN_BYTES = 4096
_PIECE_GAP_BYTES = 16 << 10  # a hole smaller than this is read along: one piece costs about as much as that

Range = tuple[int, int]
"""Start and end, the end not included."""


@dataclass(frozen=True, slots=True)
class BlockTask:
    """One block to protect. ``pieces`` are ranges within the block; None asks for the whole block."""

    block: int
    offset_bytes: int
    length_bytes: int
    base: NodeEntry
    pieces: tuple[Range, ...] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring blocks for one worker; whole ones are read in one go."""

    tasks: tuple[BlockTask, ...]

    @property
    def read_bytes(self) -> int:
        return sum(
            task.length_bytes if task.pieces is None else sum(end - start for start, end in task.pieces)
            for task in self.tasks
        )


BaseEntry = Callable[[int], NodeEntry]


def plan_scan(disk: StillDisk, block_bytes: int, base: BaseEntry | None) -> Iterator[Batch]:
    """All blocks that may hold data, from the format's own maps."""
    size_bytes = disk.geometry.size_bytes
    yield from _batched(
        BlockTask(
            block,
            block * block_bytes,
            min(block_bytes, size_bytes - block * block_bytes),
            base(block) if base else None,
        )
        for run in _runs_with_data(disk.extents(), block_bytes)
        for block in range(*run)
    )


def planned_bytes(disk: StillDisk, block_bytes: int) -> int:
    """What a scan reads: all blocks that may hold data, whole."""
    size_bytes = disk.geometry.size_bytes
    runs = _runs_with_data(disk.extents(), block_bytes)
    return sum(min(end * block_bytes, size_bytes) - first * block_bytes for first, end in runs)


def _runs_with_data(extents: Iterable[Extent], block_bytes: int) -> Iterator[Range]:
    """First block and end of what may hold data, ascending, disjoint."""
    following = 0
    for extent in extents:
        if extent.kind is ExtentKind.DATA and extent.length_bytes:
            first = max(following, extent.offset_bytes // block_bytes)
            following = max(following, -(-extent.end_bytes // block_bytes))
            if first < following:
                yield first, following


def plan_changes(
    changed: Iterable[Extent], size_bytes: int, block_bytes: int, base: BaseEntry
) -> Iterator[Batch]:
    """The blocks that changed extents touch; small changes become pieces over the base's block.

    Raises:
        UsageError: the extents are not ascending and disjoint, or leave the disk.
    """
    yield from _batched(
        _change_task(block, ranges, size_bytes, block_bytes, base(block))
        for block, ranges in _ranges_by_block(changed, size_bytes, block_bytes)
    )


def _ranges_by_block(
    changed: Iterable[Extent], size_bytes: int, block_bytes: int
) -> Iterator[tuple[int, list[Range]]]:
    current, ranges = -1, list[Range]()
    previous_end = 0
    for extent in changed:
        if extent.offset_bytes < previous_end or extent.length_bytes < 0 or extent.end_bytes > size_bytes:
            raise UsageError(
                f"the changed extent of {extent.length_bytes} bytes at {extent.offset_bytes} overlaps the "
                f"one before it, or leaves the disk of {size_bytes} bytes"
            )
        previous_end = extent.end_bytes
        position = extent.offset_bytes
        while position < extent.end_bytes:
            block = position // block_bytes
            end = min(extent.end_bytes, (block + 1) * block_bytes)
            if block != current:
                if ranges:
                    yield current, ranges
                current, ranges = block, []
            ranges.append((position - block * block_bytes, end - block * block_bytes))
            position = end
    if ranges:
        yield current, ranges


def _change_task(
    block: int, ranges: list[Range], size_bytes: int, block_bytes: int, base: NodeEntry
) -> BlockTask:
    offset_bytes = block * block_bytes
    length_bytes = min(block_bytes, size_bytes - offset_bytes)
    pieces = _widened(ranges, length_bytes)
    kept = len(base.pieces) if isinstance(base, PiecedBlock) else 0
    changed_bytes = sum(end - start for start, end in pieces)
    small = changed_bytes * 2 <= length_bytes and len(pieces) + kept <= MAX_PIECES
    return BlockTask(block, offset_bytes, length_bytes, base, tuple(pieces) if small else None)


def _widened(ranges: list[Range], length_bytes: int) -> list[Range]:
    """Rounded to pages, with small gaps closed."""
    widened: list[Range] = []
    for exact_start, exact_end in ranges:
        start = exact_start - exact_start % _PIECE_ALIGN_BYTES
        end = min(length_bytes, exact_end + -exact_end % _PIECE_ALIGN_BYTES)
        if widened and start - widened[-1][1] <= _PIECE_GAP_BYTES:
            widened[-1] = (widened[-1][0], max(end, widened[-1][1]))
        else:
            widened.append((start, end))
    return widened


def _batched(tasks: Iterable[BlockTask]) -> Iterator[Batch]:
    """Neighbours of one kind together, up to the batch size."""
    batch: list[BlockTask] = []
    length_bytes = 0
    for task in tasks:
        if batch and not (
            length_bytes + task.length_bytes <= BATCH_BYTES
            and task.block == batch[-1].block + 1
            and (task.pieces is None) == (batch[-1].pieces is None)
        ):
            yield Batch(tuple(batch))
            batch, length_bytes = [], 0
        batch.append(task)
        length_bytes += task.length_bytes
    if batch:
        yield Batch(tuple(batch))
