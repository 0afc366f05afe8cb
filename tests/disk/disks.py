"""Disks in memory, and small helpers that the disk tests share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from stillframe.disk.open import open_disk
from stillframe.disk.ranges import Untracked, check_range
from stillframe.disk.still import Extent, ExtentKind, Geometry, StillDisk
from stillframe.errors import CorruptInputError


class MemoryReader:
    """A ``RandomReader`` over bytes."""

    def __init__(self, data: bytes | bytearray, name: str = "memory") -> None:
        self.data = data
        self.name = name
        self.closed = False

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        if offset_bytes < 0 or offset_bytes + len(buffer) > len(self.data):
            raise CorruptInputError(f"{self.name}: ends before {offset_bytes + len(buffer)}")
        buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]

    def close(self) -> None:
        self.closed = True


class MemoryDisk(Untracked):
    """A still disk over bytes, which notes what was read of it."""

    def __init__(self, data: bytes, extents: Sequence[Extent] | None = None) -> None:
        self.data = data
        self.reads: list[tuple[int, int]] = []
        self._extents = extents if extents is not None else [Extent(0, len(data))]

    @property
    def disk_id(self) -> str:
        return "memory"

    @property
    def geometry(self) -> Geometry:
        return Geometry(len(self.data))

    def extents(self) -> Iterator[Extent]:
        return iter(self._extents)

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        check_range(self.geometry, offset_bytes, len(buffer))
        self.reads.append((offset_bytes, len(buffer)))
        buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]

    def close(self) -> None:
        pass


class MemoryTarget:
    """A disk target in memory that refuses to be written twice in one place."""

    def __init__(self, size_bytes: int, background: int = 0xEE) -> None:
        self.data = bytearray([background]) * size_bytes
        self.covered = bytearray(size_bytes)
        self.ended = ""

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None:
        assert not any(self.covered[offset_bytes : offset_bytes + len(data)])
        self.data[offset_bytes : offset_bytes + len(data)] = data
        self.covered[offset_bytes : offset_bytes + len(data)] = b"w" * len(data)

    def zero(self, extent: Extent) -> None:
        assert not any(self.covered[extent.offset_bytes : extent.end_bytes])
        self.data[extent.offset_bytes : extent.end_bytes] = bytes(extent.length_bytes)
        self.covered[extent.offset_bytes : extent.end_bytes] = b"z" * extent.length_bytes

    def finish(self) -> None:
        self.ended = "finished"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"


def contents(disk: StillDisk) -> bytes:
    """All of a small disk."""
    buffer = bytearray(disk.geometry.size_bytes)
    disk.read_into(0, memoryview(buffer))
    return bytes(buffer)


def read_file(path: Path, *, search: Sequence[Path] = ()) -> bytes:
    """All of a small disk file."""
    disk = open_disk(path, search=search)
    try:
        return contents(disk)
    finally:
        disk.close()


def check_extents(disk: StillDisk) -> list[Extent]:
    """The extents, after checking that they cover the disk, and that what is not data reads as zero."""
    found = list(disk.extents())
    position = 0
    for extent in found:
        assert extent.offset_bytes == position
        assert extent.length_bytes > 0
        position = extent.end_bytes
        if extent.kind is not ExtentKind.DATA:
            buffer = bytearray(b"x") * extent.length_bytes
            disk.read_into(extent.offset_bytes, memoryview(buffer))
            assert not any(buffer)
    assert position == disk.geometry.size_bytes
    return found
