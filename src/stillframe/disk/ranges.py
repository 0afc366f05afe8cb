"""Small things that every kind of disk needs: range checks, untracked changes, holes in files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from errno import EINVAL, ENXIO

from stillframe.disk.still import CannotTellChangesError, Extent, ExtentKind, Geometry


def check_range(geometry: Geometry, offset_bytes: int, length_bytes: int) -> None:
    """Raise ValueError unless the range lies within the disk."""
    if offset_bytes < 0 or offset_bytes + length_bytes > geometry.size_bytes:
        raise ValueError(f"{offset_bytes}+{length_bytes} leaves the disk of {geometry.size_bytes} bytes")


def fill_zeros(buffer: memoryview) -> None:
    buffer[:] = bytes(len(buffer))


class Untracked:
    """The part of ``StillDisk`` that a file which tracks no changes has in common."""

    @property
    def token(self) -> None:
        return None

    def changed(self, since: str) -> Iterator[Extent]:
        raise CannotTellChangesError(f"a disk file keeps no record of changes (asked since {since!r})")


def file_extents(descriptor: int | None, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
    """Data and holes of a file between two offsets (lseek(2), SEEK_DATA and SEEK_HOLE).

    A source without holes (a block device, a share, ``descriptor`` None) is all data.
    """
    if descriptor is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        yield Extent(start_bytes, end_bytes - start_bytes)
        return
    position = start_bytes
    while position < end_bytes:
        data = min(_seek(descriptor, position, os.SEEK_DATA, end_bytes), end_bytes)
        if data > position:
            yield Extent(position, data - position, ExtentKind.UNMAPPED)
        position = data
        if position < end_bytes:
            hole = min(_seek(descriptor, position, os.SEEK_HOLE, end_bytes), end_bytes)
            yield Extent(position, hole - position)
            position = hole


def _seek(descriptor: int, position: int, whence: int, end_bytes: int) -> int:
    try:
        return os.lseek(descriptor, position, whence)
    except OSError as error:
        if error.errno == ENXIO:  # nothing but a hole up to the end
            return end_bytes
        if error.errno == EINVAL:  # the file system knows no holes: all data
            return position if whence == os.SEEK_DATA else end_bytes
        raise


def descriptor_of(reader: object) -> int | None:
    """The file descriptor behind a reader, if it has one."""
    fileno = getattr(reader, "fileno", None)
    return int(fileno()) if fileno else None
