"""Repositories of a size that nobody would fill for a benchmark: what is read is real, the rest is its like.

Of a full disk's tree only the nodes on the way to the blocks in question exist; all others are random ids, as
all ids look. The index has a row for every block and node, real or not, in segments as consolidation leaves
them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from stillframe.repository.blobs import BlobType, Codec
from stillframe.repository.idsearch import id_order
from stillframe.repository.nodes import NodeEntry, encode_node
from stillframe.repository.operations import Steps, drive
from stillframe.repository.packs import PackBuilder, PackKind
from stillframe.repository.points import PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.segments import PackTable, Segment, encode_segment, take_rows
from stillframe.repository.tree import height_for

ROWS_OF_A_SEGMENT = 1 << 20
BLOBS_OF_A_PACK = 64


def add_index_rows(repository: Repository, rows: int, random: np.random.Generator) -> None:
    """Commit index segments with so many rows of data blobs that exist nowhere else."""
    names = []
    for start in range(0, rows, ROWS_OF_A_SEGMENT):
        segment = _segment(min(ROWS_OF_A_SEGMENT, rows - start), random)
        name, data = encode_segment(segment, repository.knowledge.bundle)
        repository.storage.put_if_absent(name, data)
        names.append(name)
    _append(repository, {"kind": "upload", "machine": "bench", "add": names})


def _segment(rows: int, random: np.random.Generator) -> Segment:
    packs = -(-rows // BLOBS_OF_A_PACK)
    length_bytes = 1 << 20
    table = PackTable(
        _random_ids(packs, random),
        np.full(packs, BLOBS_OF_A_PACK * length_bytes // 2, np.uint64),
        np.full(packs, PackKind.DATA, np.uint8),
    )
    unsorted = Segment(
        table,
        _random_ids(rows, random),
        np.arange(rows, dtype=np.uint32) // np.uint32(BLOBS_OF_A_PACK),
        np.arange(rows, dtype=np.uint32) % np.uint32(BLOBS_OF_A_PACK) * np.uint32(length_bytes // 2),
        np.full(rows, length_bytes // 2, np.uint32),
        np.full(rows, length_bytes, np.uint32),
        np.full(rows, BlobType.DATA, np.uint8),
        np.full(rows, Codec.ZSTD, np.uint8),
    )
    return take_rows(unsorted, id_order(unsorted.ids))


def _random_ids(count: int, random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return random.integers(0, 256, (count, 32), np.uint8)


def fill_disk(
    repository: Repository,
    point: RecoveryPoint,
    touched: Sequence[int],
    packs: int,
    random: np.random.Generator,
) -> None:
    """Commit a point like ``point``, its one disk full; the way to ``touched`` lies in so many packs."""
    [disk] = point.disks
    tree = _FullTree(repository, touched, packs, random)
    full = replace(disk, root=tree.build(disk))
    draft = repository.draft()
    for pack in tree.packs:
        drive(draft.put_pack(pack.seal()), repository.storage)
    repository.commit_point(draft, replace(point, point_id=os.urandom(8).hex(), disks=(full,)))


class _FullTree:
    def __init__(
        self, repository: Repository, touched: Sequence[int], packs: int, random: np.random.Generator
    ) -> None:
        config, self._knowledge = repository.config, repository.knowledge
        self._fan_out = config.fan_out
        self._touched = np.array(touched)
        self._random = random
        self._stored = 0
        self.packs = [
            PackBuilder(PackKind.METADATA, self._knowledge.bundle, config.pack_bytes) for _ in range(packs)
        ]

    def build(self, disk: PointDisk) -> bytes:
        """The root."""
        return self._node(height_for(disk.block_count, self._fan_out), 0, disk.block_count)

    def _node(self, height: int, first: int, end: int) -> bytes:
        """The id of the node that covers the blocks from ``first`` on, so far as they come before ``end``."""
        span = self._fan_out**height
        starts = range(first, min(end, first + span * self._fan_out), span)
        return self._store(height, [self._child(height, start, span, end) for start in starts])

    def _child(self, height: int, start: int, span: int, end: int) -> bytes:
        touched = ((self._touched >= start) & (self._touched < start + span)).any()
        if height == 0 or not touched:
            return self._random.bytes(32)
        return self._node(height - 1, start, end)

    def _store(self, height: int, entries: list[NodeEntry] | list[bytes]) -> bytes:
        data = encode_node(height, entries)
        node_id = self._knowledge.ids.id_of(BlobType.NODE, data)
        pack = self.packs[self._stored % len(self.packs)]
        pack.add(node_id, BlobType.NODE, Codec.PLAIN, data, len(data))
        self._stored += 1
        return node_id


def repeat_point(repository: Repository, point: RecoveryPoint, times: int) -> None:
    """Commit so many more points like this one, a minute apart."""
    for number in range(1, times + 1):
        again = replace(
            point,
            point_id=os.urandom(8).hex(),
            time=point.time + timedelta(minutes=number),
            kind="incremental",
            parent=point.point_id,
        )
        _append(repository, {"kind": "point", "point": again.to_json(), "add": [], "bases": []})


def _append(repository: Repository, entry: dict[str, Any]) -> None:
    def build() -> Steps[dict[str, Any]]:
        yield from ()
        return entry

    drive(repository.knowledge.log.append(build), repository.storage)
