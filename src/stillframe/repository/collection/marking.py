"""What is alive: every blob that a live point or window reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from stillframe.repository.blobs import ID_BYTES, BlobType
from stillframe.repository.errors import ConflictError, DamagedError
from stillframe.repository.idsearch import Ids, contained, ids_array, sorted_unique
from stillframe.repository.index import Location
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.nodes import Node, decode_node
from stillframe.repository.operations import Get, GetRange, Steps
from stillframe.repository.packs import PREFIX_BYTES, pack_opener
from stillframe.repository.state import State
from stillframe.repository.storage.base import ObjectMissingError
from stillframe.repository.tree import height_for

_WHOLE_PACK_BYTES = 8 << 20
"""A metadata pack up to this size is fetched whole when several of its nodes are wanted."""

_FRONTIER = 4096
Tree = tuple[bytes, int]
"""Id and height of a node."""


class Marker:
    """Walks the trees of live points once; asked again, it walks only what is new."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._walked: set[bytes] = set()
        self._seen_points: set[str] = set()
        self._fresh = bytearray()
        self.live = sorted_unique(ids_array([]))

    def extend(self) -> Steps[Ids]:
        """Mark all that the state reaches; the ids that were not marked before, sorted.

        Raises:
            DamagedError: a node is lost, so that nobody can say what it reached: nothing may be collected.
        """
        yield from self._knowledge.load_segments()
        for tree in self._roots(self._knowledge.state):
            yield from self._walk(tree)
        fresh = sorted_unique(np.frombuffer(bytes(self._fresh), np.uint8).reshape(-1, ID_BYTES))
        self._fresh.clear()
        new = fresh[~contained(fresh, self.live)]
        self.live = sorted_unique(np.concatenate([self.live, new]))
        return new

    def _roots(self, state: State) -> Iterator[Tree]:
        fan_out = self._knowledge.config.fan_out
        for point in state.points.values():
            if point.point_id not in self._seen_points:
                self._seen_points.add(point.point_id)
                self._mark(point.documents.values())
                for disk in point.disks:
                    if disk.root is not None:
                        yield disk.root, height_for(disk.block_count, fan_out)
        for window in state.windows.values():
            self._mark(window.blobs)
            yield from window.trees

    def _mark(self, blob_ids: Iterable[bytes]) -> None:
        for blob_id in blob_ids:
            self._fresh += blob_id

    def _walk(self, root: Tree) -> Steps[None]:
        """Depth first in batches, so that neither memory nor requests grow with the tree's width."""
        pending: list[Tree] = [root]
        while pending:
            batch = [tree for tree in pending[-_FRONTIER:] if tree[0] not in self._walked]
            del pending[-_FRONTIER:]
            self._walked.update(node_id for node_id, _ in batch)
            self._mark(node_id for node_id, _ in batch)
            nodes = yield from fetch_nodes(self._knowledge, list(dict.fromkeys(batch)))
            for node in nodes:
                if node.height:
                    pending.extend((below, node.height - 1) for below in node.references())
                else:
                    self._mark(node.references())


def fetch_nodes(knowledge: Knowledge, trees: list[Tree]) -> Steps[list[Node]]:
    """The nodes behind ids and heights, fetched pack by pack.

    Raises:
        DamagedError: one is not in the index, or damaged.
        ConflictError: a pack is gone that the index names; an entry not read yet may say why.
    """
    nodes: list[Node] = []
    by_pack: dict[str, list[tuple[Location, int]]] = {}
    for (node_id, height), location in zip(
        trees, knowledge.index.find([node_id for node_id, _ in trees]), strict=True
    ):
        if location is None:
            raise DamagedError(f"node {node_id.hex()[:16]} is in no live pack")
        by_pack.setdefault(location.object_name, []).append((location, height))
    sizes = knowledge.index.packs if len(trees) > 1 else {}
    for name, wanted in by_pack.items():
        _, size_bytes = sizes.get(wanted[0][0].pack_id, (None, _WHOLE_PACK_BYTES + 1))
        whole = len(wanted) > 1 and size_bytes <= _WHOLE_PACK_BYTES
        try:
            nodes += yield from _fetch_from_pack(knowledge, name, wanted, whole)
        except ObjectMissingError as error:
            raise ConflictError(f"{name}: is gone; it held nodes of disk trees") from error
    return nodes


def _fetch_from_pack(
    knowledge: Knowledge, name: str, wanted: list[tuple[Location, int]], whole: bool
) -> Steps[list[Node]]:
    data: bytes = yield Get(name) if whole else GetRange(name, 0, _prefix_bytes(wanted))
    opener = pack_opener(name, data[:PREFIX_BYTES], knowledge.bundle)
    nodes = []
    for location, height in wanted:
        row = location.row
        if whole:
            stored = data[row.offset_bytes : row.offset_bytes + row.stored_bytes]
        else:
            stored = yield GetRange(name, row.offset_bytes, row.stored_bytes)
        plain = opener.open(row, stored)
        if knowledge.ids.id_of(BlobType.NODE, plain) != row.blob_id:
            raise DamagedError(f"{name}: node {row.blob_id.hex()[:16]} is not what its id says")
        nodes.append(decode_node(plain, height, f"node {row.blob_id.hex()[:16]}"))
    return nodes


def _prefix_bytes(wanted: list[tuple[Location, int]]) -> int:
    """The header of a metadata pack: blobs begin right behind it."""
    return min(PREFIX_BYTES, *(location.row.offset_bytes for location, _ in wanted))
