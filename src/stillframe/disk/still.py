"""The two protocols that hold the house together: a still disk (source) and a disk target.

A VHDX file, a QEMU snapshot over NBD, a recovery point in the repository and a moment of a CDP journal are
all still disks. A VHDX, a raw file, an NBD export and a standby machine are all targets. Whatever moves data
between the two is written once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from stillframe.errors import StillframeError

SECTOR_SIZES = (512, 4096)
MAX_DISK_BYTES = 64 << 40  # VHDX's limit, the largest of all the formats ([MS-VHDX] 2.6.2.2)


class ExtentKind(StrEnum):
    """What a format knows of a range without reading it."""

    DATA = "data"  # may hold anything, zeros included
    ZERO = "zero"  # defined to read as zeros
    UNMAPPED = "unmapped"  # never written, or given back by the guest; reads as zeros


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of a disk, in bytes."""

    offset_bytes: int
    length_bytes: int
    kind: ExtentKind = ExtentKind.DATA

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes


@dataclass(frozen=True, slots=True)
class Geometry:
    """Size and sector sizes of a disk as its guest sees it."""

    size_bytes: int
    logical_sector_bytes: int = 512
    physical_sector_bytes: int = 512


class CannotTellChangesError(StillframeError):
    """The source cannot say what changed since a token; the message is the reason kept with the point."""


@runtime_checkable
class StillDisk(Protocol):
    """A disk that does not change while it is read.

    All methods may be called from several threads at once.
    """

    @property
    def disk_id(self) -> str:
        """Names the disk across runs (a VHDX's virtual disk id, a file's path); stable, never empty."""

    @property
    def geometry(self) -> Geometry: ...

    @property
    def token(self) -> str | None:
        """What to hand to ``changed`` on the next run, or None if this source tracks no changes."""

    def extents(self) -> Iterator[Extent]:
        """The whole disk in ascending order, without gaps or overlaps, from the format's own maps.

        No guest data is read. Neighbours of one kind may or may not be joined.
        """

    def changed(self, since: str) -> Iterator[Extent]:
        """Extents that may differ from the disk as it was at ``since``, ascending, disjoint.

        Raises:
            CannotTellChangesError: ``since`` is unknown or no longer trusted, with the reason.
        """

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        """Fill the whole of ``buffer`` from ``offset_bytes``.

        Raises:
            ValueError: the range leaves the disk.
            CorruptInputError: the source is damaged there.
        """

    def close(self) -> None: ...


class DiskTarget(Protocol):
    """Takes the contents of one disk, in any order; every byte not written reads as zero.

    ``write`` may be called from several threads at once as long as the ranges are disjoint. Nothing is
    visible under the final name before ``finish``; ``abort`` (or a crash) leaves no half-made disk behind
    that could be mistaken for a whole one.
    """

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None: ...

    def zero(self, extent: Extent) -> None:
        """State that a range is zero; the target keeps it sparse where it can."""

    def finish(self) -> None:
        """Make everything durable and visible."""

    def abort(self) -> None:
        """Give up and remove what was made; harmless after ``finish``."""


def joined(extents: Iterator[Extent]) -> Iterator[Extent]:
    """Join neighbours of one kind."""
    pending: Extent | None = None
    for extent in extents:
        if pending and extent.kind is pending.kind and extent.offset_bytes == pending.end_bytes:
            pending = Extent(pending.offset_bytes, pending.length_bytes + extent.length_bytes, pending.kind)
            continue
        if pending:
            yield pending
        pending = extent
    if pending:
        yield pending
