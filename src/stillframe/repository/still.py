"""A disk of a recovery point as a still disk: whatever reads disks reads any moment."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

from stillframe.disk.still import CannotTellChangesError, Extent, ExtentKind, Geometry
from stillframe.repository.blobs import BlobType, BytesLike
from stillframe.repository.nodes import NodeEntry, PiecedBlock
from stillframe.repository.points import PointDisk
from stillframe.repository.repository import Repository
from stillframe.repository.tree import block_entry, changed_blocks, height_for, walk_blocks

_CACHED_BLOCKS = 32


class StoredDisk:
    """Reads one disk of a recovery point. Safe between threads; blocks read a moment ago are kept."""

    def __init__(self, repository: Repository, disk: PointDisk) -> None:
        self._repository = repository
        self._disk = disk
        self._fan_out = repository.config.fan_out
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, BytesLike] = OrderedDict()

    @property
    def disk_id(self) -> str:
        return self._disk.disk_id

    @property
    def geometry(self) -> Geometry:
        return self._disk.geometry

    @property
    def token(self) -> str | None:
        return None

    @property
    def block_bytes(self) -> int:
        """Reads that keep to multiples of this are the fastest."""
        return self._disk.block_bytes

    def extents(self) -> Iterator[Extent]:
        """Blocks that the tree holds are data, all others zero."""
        size_bytes, block_bytes = self.geometry.size_bytes, self._disk.block_bytes
        position = 0
        for start, end in _runs(number for number, _ in self._blocks()):
            offset_bytes, end_bytes = start * block_bytes, min(end * block_bytes, size_bytes)
            if offset_bytes > position:
                yield Extent(position, offset_bytes - position, ExtentKind.ZERO)
            yield Extent(offset_bytes, end_bytes - offset_bytes, ExtentKind.DATA)
            position = end_bytes
        if position < size_bytes:
            yield Extent(position, size_bytes - position, ExtentKind.ZERO)

    def _blocks(self) -> Iterator[tuple[int, NodeEntry]]:
        return walk_blocks(self._disk.root, self._disk.block_count, self._fan_out, self._repository.read_node)

    def changed(self, since: str) -> Iterator[Extent]:
        del since
        raise CannotTellChangesError("a recovery point has no token; compare it with another point instead")

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        end_bytes = offset_bytes + len(buffer)
        if offset_bytes < 0 or end_bytes > self.geometry.size_bytes:
            raise ValueError(f"{len(buffer)} bytes at {offset_bytes} leave the disk")
        block_bytes = self._disk.block_bytes
        position = offset_bytes
        while position < end_bytes:
            block, start = divmod(position, block_bytes)
            length_bytes = min(block_bytes - start, end_bytes - position)
            into = buffer[position - offset_bytes : position - offset_bytes + length_bytes]
            self._read_block(block, start, into)
            position += length_bytes

    def entry(self, block: int) -> NodeEntry:
        """What the tree says of a block."""
        read = self._repository.read_node
        return block_entry(self._disk.root, block, self._disk.block_count, self._fan_out, read)

    def _read_block(self, block: int, start: int, into: memoryview) -> None:
        entry = self.entry(block)
        if isinstance(entry, PiecedBlock):
            self._lay_out(entry.base, start, into)
            for piece in entry.pieces:
                first = max(start, piece.offset_bytes)
                last = min(start + len(into), piece.end_bytes)
                if first < last:
                    blob_start = piece.blob_offset_bytes + first - piece.offset_bytes
                    blob_id = None if piece.is_zero else piece.blob_id
                    self._lay_out(blob_id, blob_start, into[first - start : last - start])
        else:
            self._lay_out(entry, start, into)

    def _lay_out(self, blob_id: bytes | None, start: int, into: memoryview) -> None:
        """Copy from a blob; what lies behind its end is zero."""
        available = memoryview(self._blob(blob_id))[start : start + len(into)] if blob_id else memoryview(b"")
        into[: len(available)] = available
        if len(available) < len(into):
            into[len(available) :] = bytes(len(into) - len(available))

    def _blob(self, blob_id: bytes) -> BytesLike:
        with self._lock:
            data = self._cache.get(blob_id)
        if data is None:
            data = self._repository.read_blob(blob_id, BlobType.DATA)
            with self._lock:
                self._cache[blob_id] = data
                if len(self._cache) > _CACHED_BLOCKS:
                    self._cache.popitem(last=False)
        return data

    def close(self) -> None:
        self._cache.clear()


def _runs(numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as runs of start and end."""
    start = end = -1
    for number in numbers:
        if number != end:
            if end > start:
                yield start, end
            start = number
        end = number + 1
    if end > start:
        yield start, end


def changed_extents(repository: Repository, old: PointDisk, new: PointDisk) -> Iterator[Extent]:
    """Ranges of ``new`` that may differ from ``old``, by block, without reading guest data.

    Where the sizes differ, everything is compared that both have, and the rest of ``new`` is changed if it
    holds data.
    """
    fan_out, block_bytes = repository.config.fan_out, new.block_bytes
    size_bytes = new.geometry.size_bytes
    if height_for(old.block_count, fan_out) == height_for(new.block_count, fan_out):
        pairs = changed_blocks(old.root, new.root, new.block_count, fan_out, repository.read_node)
        numbers: Iterator[int] = (number for number, _, _ in pairs if number < new.block_count)
    else:
        numbers = _differing(repository, old, new)
    for start, end in _runs(numbers):
        offset_bytes = start * block_bytes
        yield Extent(offset_bytes, min(end * block_bytes, size_bytes) - offset_bytes)


def _differing(repository: Repository, old: PointDisk, new: PointDisk) -> Iterator[int]:
    fan_out, read = repository.config.fan_out, repository.read_node
    before = dict(walk_blocks(old.root, old.block_count, fan_out, read))
    after = dict(walk_blocks(new.root, new.block_count, fan_out, read))
    numbers = sorted(before.keys() | after.keys())
    return (n for n in numbers if n < new.block_count and before.get(n) != after.get(n))
