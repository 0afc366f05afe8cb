"""Giving a disk back: to a new file of any format, or in place, writing only what differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillframe.disk.convert import copy_disk, finishing
from stillframe.disk.create import DiskFormat, DiskKind, create_disk
from stillframe.disk.open import open_disk
from stillframe.disk.raw import InPlaceRawTarget, RawDisk
from stillframe.disk.read_ahead import ahead
from stillframe.disk.still import Extent, StillDisk
from stillframe.disk.zeros import is_zero
from stillframe.errors import UnsupportedError
from stillframe.progress import NoProgress, Progress
from stillframe.repository.blobs import BlobType
from stillframe.repository.points import PointDisk
from stillframe.repository.repository import Repository
from stillframe.repository.still import StoredDisk


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did: written, and left alone because it was right already."""

    size_bytes: int
    written_bytes: int
    zero_bytes: int
    equal_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "size_bytes": self.size_bytes,
            "written_bytes": self.written_bytes,
            "zero_bytes": self.zero_bytes,
            "equal_bytes": self.equal_bytes,
        }


def restore_disk(
    repository: Repository,
    disk: PointDisk,
    destination: Path,
    *,
    format: DiskFormat,
    kind: DiskKind | None = None,
    block_size_bytes: int | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Write a disk of a recovery point to a new file; every block is verified on its way.

    Raises:
        UsageError: the destination exists.
        DamagedError: a block is lost; nothing appears under the destination's name.
    """
    source = StoredDisk(repository, disk)
    target = create_disk(
        destination, disk.geometry, format=format, kind=kind, block_size_bytes=block_size_bytes
    )
    with finishing(target):
        done = copy_disk(source, target, progress or NoProgress())
    zero_bytes = done.found_zero_bytes + done.known_zero_bytes
    return RestoreReport(disk.geometry.size_bytes, done.written_bytes, zero_bytes, 0)


def restore_in_place(
    repository: Repository, disk: PointDisk, destination: Path, *, progress: Progress | None = None
) -> RestoreReport:
    """Make an existing raw file or block device equal to the disk, writing only the blocks that differ.

    A block is compared by its id, so what is right already is neither fetched nor written. Interrupted, it
    leaves a disk that is part old, part new: run it again.

    Raises:
        UnsupportedError: the destination is of a format that cannot be overwritten in place.
        UsageError: it is missing, in use, or of another size.
    """
    existing = open_disk(destination)
    if not isinstance(existing, RawDisk):
        existing.close()
        raise UnsupportedError(
            f"{destination}: only raw files and block devices can be restored in place",
            hint="Restore to a new file instead.",
        )
    target = InPlaceRawTarget(destination, disk.geometry)
    progress = progress or NoProgress()
    progress.begin("comparing", disk.geometry.size_bytes)
    compared = _Comparison(repository, disk, existing)
    written = zeroed = equal = 0
    try:
        for extent, data in ahead(compared.wanted, _blocks(disk)):
            if data is None:
                equal += extent.length_bytes
            elif data:
                target.write(extent.offset_bytes, data)
                written += extent.length_bytes
            else:
                target.zero(extent)
                zeroed += extent.length_bytes
            progress.advance(extent.length_bytes)
        target.finish()
    finally:
        target.abort()
        existing.close()
    return RestoreReport(disk.geometry.size_bytes, written, zeroed, equal)


def _blocks(disk: PointDisk) -> Iterator[Extent]:
    size_bytes, block_bytes = disk.geometry.size_bytes, disk.block_bytes
    for offset_bytes in range(0, size_bytes, block_bytes):
        yield Extent(offset_bytes, min(block_bytes, size_bytes - offset_bytes))


class _Comparison:
    """Tells, block by block, what the destination lacks."""

    def __init__(self, repository: Repository, disk: PointDisk, existing: StillDisk) -> None:
        self._ids = repository.knowledge.ids
        self._source = StoredDisk(repository, disk)
        self._existing = existing

    def wanted(self, extent: Extent) -> bytes | None:
        """None: equal. Empty: all zero. Otherwise the bytes to write."""
        there = bytearray(extent.length_bytes)
        self._existing.read_into(extent.offset_bytes, memoryview(there))
        entry = self._source.entry(extent.offset_bytes // self._source.block_bytes)
        if entry is None:
            return None if is_zero(there) else b""
        if isinstance(entry, bytes) and self._ids.id_of(BlobType.DATA, there) == entry:
            return None
        data = bytearray(extent.length_bytes)
        self._source.read_into(extent.offset_bytes, memoryview(data))
        return None if data == there else bytes(data)
