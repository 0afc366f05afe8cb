"""Copying a still disk onto a target: what every restore, conversion and replication comes down to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stillframe.disk.read_ahead import ahead, pieces
from stillframe.disk.still import DiskTarget, Extent, ExtentKind, StillDisk, joined
from stillframe.disk.zeros import nonzero_runs
from stillframe.progress import NoProgress, Progress

_NO_PROGRESS = NoProgress()

_Read = tuple[bytearray, list[tuple[int, int]]]
"""What was read, and the parts of it that hold anything."""


@dataclass(frozen=True, slots=True)
class CopyStatistics:
    """What a copy did; the three together are the disk's size."""

    written_bytes: int
    found_zero_bytes: int  # read and found to be zero
    known_zero_bytes: int  # not read: the format knows that they are zero


@contextmanager
def finishing(target: DiskTarget) -> Iterator[DiskTarget]:
    """Finish the target when the block ends well, abort it when it, or the finishing, fails."""
    try:
        yield target
        target.finish()
    finally:
        target.abort()  # harmless after a finish that went well


def copy_disk(source: StillDisk, target: DiskTarget, progress: Progress = _NO_PROGRESS) -> CopyStatistics:
    """Copy all of ``source``; data is read ahead on threads and written in ascending order.

    Ranges that are zero are told to the target by ``zero``, in multiples of 64 KiB, and never written.
    Memory: 16 MiB. The caller finishes or aborts the target (see ``finishing``).

    Raises:
        CorruptInputError: the source is damaged.
        CannotWriteError: the target cannot take the data.
    """
    progress.begin("copying", source.geometry.size_bytes)
    written = known_zero = 0

    def read(extent: Extent) -> _Read | None:
        if extent.kind is not ExtentKind.DATA:
            return None
        buffer = bytearray(extent.length_bytes)
        source.read_into(extent.offset_bytes, memoryview(buffer))
        return buffer, list(nonzero_runs(buffer))

    for extent, read_in in ahead(read, _cut(source)):
        if read_in is None:
            target.zero(extent)
            known_zero += extent.length_bytes
        else:
            written += _write(target, extent, *read_in)
        progress.advance(extent.length_bytes)
    found_zero = source.geometry.size_bytes - written - known_zero
    return CopyStatistics(written, found_zero, known_zero)


def _cut(source: StillDisk) -> Iterator[Extent]:
    """Data in pieces to read; what is known to be zero stays whole, however long."""
    for extent in joined(source.extents()):
        if extent.kind is ExtentKind.DATA:
            yield from pieces([extent])
        else:
            yield extent


def _write(target: DiskTarget, extent: Extent, data: bytearray, runs: list[tuple[int, int]]) -> int:
    """Write what is not zero; the number of bytes written."""
    view = memoryview(data)
    done = written = 0
    for start, stop in runs:
        _zero(target, extent.offset_bytes + done, start - done)
        target.write(extent.offset_bytes + start, view[start:stop])
        written += stop - start
        done = stop
    _zero(target, extent.offset_bytes + done, len(data) - done)
    return written


def _zero(target: DiskTarget, offset_bytes: int, length_bytes: int) -> None:
    if length_bytes:
        target.zero(Extent(offset_bytes, length_bytes, ExtentKind.ZERO))
