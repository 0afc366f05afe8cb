"""Which parts of which recovery points damage touches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stillframe.repository.checking.report import Affected, CheckReport
from stillframe.repository.errors import DamagedError
from stillframe.repository.index import Index
from stillframe.repository.nodes import Node, NodeEntry, PiecedBlock, decode_node
from stillframe.repository.points import PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import StorageError
from stillframe.repository.tree import height_for

Range = tuple[int, int]
"""First block and end, counted from the node's own first block."""


def find_affected(
    repository: Repository, index: Index, points: Iterable[RecoveryPoint], report: CheckReport
) -> None:
    """Walk every tree of some points; each node once, however many points share it.

    ``index`` is as of a moment when the points were live; it may lack segments that are lost.
    """
    walk = _Walk(repository, index, report)
    for point in points:
        for disk in point.disks:
            ranges = tuple(walk.damaged(disk))
            if ranges:
                report.affected.append(Affected(point.point_id, point.machine, disk.name, ranges))
        _check_documents(point, walk, report)


def _check_documents(point: RecoveryPoint, walk: _Walk, report: CheckReport) -> None:
    for name, blob_id in point.documents.items():
        if not walk.has(blob_id):
            report.affected.append(Affected(point.point_id, point.machine, f"document {name}", ()))


class _Walk:
    def __init__(self, repository: Repository, index: Index, report: CheckReport) -> None:
        self._repository = repository
        self._index = index
        self._report = report
        self._known: dict[bytes, tuple[Range, ...]] = {}

    def has(self, blob_id: bytes) -> bool:
        return blob_id not in self._report.lost and self._index.find_one(blob_id) is not None

    def damaged(self, disk: PointDisk) -> Iterator[tuple[int, int]]:
        """Offset and length of every part of the disk that cannot be restored."""
        if disk.root is None:
            return
        height = height_for(disk.block_count, self._repository.config.fan_out)
        size_bytes, block_bytes = disk.geometry.size_bytes, disk.block_bytes
        for first, end in _joined(self._node(disk.root, height)):
            offset_bytes = first * block_bytes
            if offset_bytes < size_bytes:
                yield offset_bytes, min(end * block_bytes, size_bytes) - offset_bytes

    def _node(self, node_id: bytes, height: int) -> tuple[Range, ...]:
        known = self._known.get(node_id)
        if known is None:
            known = self._known[node_id] = tuple(self._look(node_id, height))
        return known

    def _look(self, node_id: bytes, height: int) -> Iterator[Range]:
        fan_out = self._repository.config.fan_out
        try:
            if node_id in self._report.lost:
                raise DamagedError(f"node {node_id.hex()[:16]} is damaged")
            node = self._read(node_id, height)
        except (DamagedError, StorageError) as error:
            self._report.add(f"node {node_id.hex()[:16]}", str(error))
            yield 0, fan_out ** (height + 1)
            return
        if height == 0:
            yield from self._blocks(node)
            return
        span = fan_out**height
        for child, entry in enumerate(node.entries):
            if isinstance(entry, bytes):
                for first, end in self._node(entry, height - 1):
                    yield child * span + first, child * span + end

    def _read(self, node_id: bytes, height: int) -> Node:
        """A node from any good copy that the index at hand knows; the last resort is what holds by now."""
        for location in self._index.copies(node_id):
            if node_id not in self._report.damaged_packs.get(location.pack_id, ()):
                try:
                    data = self._repository.read_at(location)
                except (DamagedError, StorageError):
                    continue  # collected since, at best
                return decode_node(data, height, f"node {node_id.hex()[:16]}")
        return self._repository.read_node(node_id, height)

    def _blocks(self, node: Node) -> Iterator[Range]:
        found = self._index.find(list(node.references()))
        if self._report.lost or None in found:
            for block, entry in enumerate(node.entries):
                if not all(self.has(blob_id) for blob_id in _needs(entry)):
                    yield block, block + 1


def _needs(entry: NodeEntry) -> list[bytes]:
    if isinstance(entry, PiecedBlock):
        pieces = [piece.blob_id for piece in entry.pieces if not piece.is_zero]
        return pieces + ([entry.base] if entry.base else [])
    return [entry] if entry else []


def _joined(ranges: tuple[Range, ...]) -> Iterator[Range]:
    pending: Range | None = None
    for first, end in ranges:
        if pending and pending[1] == first:
            pending = (pending[0], end)
            continue
        if pending:
            yield pending
        pending = (first, end)
    if pending:
        yield pending
