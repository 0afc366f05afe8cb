"""A machine with one small disk, protected by the repository under test, and what its points must hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stillframe.disk.still import Extent, Geometry
from stillframe.repository.blobs import BlobType
from stillframe.repository.ingest import IngestRun
from stillframe.repository.nodes import NodeEntry, PiecedBlock
from stillframe.repository.points import Consistency, PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.tree import walk_blocks

BLOCK_BYTES = 64 << 10
_EPOCH = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class MemoryDisk:
    """A still disk in memory; all of it may hold data."""

    data: bytes
    disk_id: str = "disk"
    token: str | None = None

    @property
    def geometry(self) -> Geometry:
        return Geometry(len(self.data))

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, len(self.data))

    def changed(self, since: str) -> Iterator[Extent]:
        yield from self.extents()

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]

    def close(self) -> None:
        """Nothing is open."""


def blocks(letters: str) -> bytes:
    """A disk of one block a letter; ``.`` is a block of zeros, ``+`` a short one at the end."""
    whole = {letter: (b"\0" if letter == "." else letter.encode()) * BLOCK_BYTES for letter in letters}
    return b"".join(whole[letter][: 8192 if letter == "+" else BLOCK_BYTES] for letter in letters)


def patched(data: bytes, changes: Mapping[int, bytes]) -> bytes:
    """A disk with some bytes changed, by offset."""
    result = bytearray(data)
    for offset, new in changes.items():
        result[offset : offset + len(new)] = new
    return bytes(result)


def new_point(
    point_id: str, repository: Repository, data: bytes, root: bytes | None, parent: str | None
) -> RecoveryPoint:
    disk = PointDisk("disk", "disk", Geometry(len(data)), repository.config.block_bytes, root)
    return RecoveryPoint(
        point_id,
        "machine",
        _EPOCH + timedelta(minutes=int(point_id, 16)),
        Consistency.CRASH,
        "made by a test",
        "incremental" if parent else "full",
        "made by a test",
        parent,
        (disk,),
    )


def back_up(
    repository: Repository,
    point_id: str,
    data: bytes,
    *,
    parent: str | None = None,
    changes: Mapping[int, bytes] | None = None,
) -> None:
    """Protect a disk: all of it, or the ``changes`` to the parent's disk."""
    with IngestRun(repository, "machine") as run:
        if parent is None:
            root = run.scan(MemoryDisk(data))
        else:
            base = repository.state.points[parent].disks[0]
            extents = [Extent(offset, len(new)) for offset, new in sorted((changes or {}).items())]
            root = run.update(MemoryDisk(data), extents, base)
        run.commit(new_point(point_id, repository, data, root, parent), [parent] if parent else [])


def restored(repository: Repository, point_id: str) -> bytes:
    """The bytes of a point's disk, put together after section 7 of the format."""
    disk = repository.state.points[point_id].disks[0]
    result = bytearray(disk.geometry.size_bytes)
    fan_out = repository.config.fan_out
    for number, entry in walk_blocks(disk.root, disk.block_count, fan_out, repository.read_node):
        start = number * disk.block_bytes
        block = _block(repository, entry, disk.block_bytes)
        end = min(start + disk.block_bytes, len(result))
        result[start:end] = block[: end - start]
    return bytes(result)


def _block(repository: Repository, entry: NodeEntry, block_bytes: int) -> bytes:
    base = entry.base if isinstance(entry, PiecedBlock) else entry
    block = bytearray(repository.read_blob(base, BlobType.DATA) if base else b"").ljust(block_bytes, b"\0")
    for piece in entry.pieces if isinstance(entry, PiecedBlock) else ():
        blob = b"" if piece.is_zero else bytes(repository.read_blob(piece.blob_id, BlobType.DATA))
        part = blob[piece.blob_offset_bytes : piece.blob_offset_bytes + piece.length_bytes]
        block[piece.offset_bytes : piece.end_bytes] = part.ljust(piece.length_bytes, b"\0")
    return bytes(block)
