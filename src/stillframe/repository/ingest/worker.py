"""What one worker does with a batch: zero test, ids, look-up, storing."""

from __future__ import annotations

from dataclasses import dataclass

from stillframe.disk.zeros import is_zero
from stillframe.repository.blobs import BlobType, IdKeys
from stillframe.repository.ingest.plan import Batch, BlockTask
from stillframe.repository.ingest.statistics import Statistics
from stillframe.repository.ingest.store import BlobStore
from stillframe.repository.nodes import ZEROS, NodeEntry, Piece, PiecedBlock

Result = tuple[int, NodeEntry]
"""A block's number and its new entry."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A whole block or a piece of one, as read."""

    task: BlockTask
    start_bytes: int
    data: memoryview
    blob_id: bytes


class Worker:
    """Turns batches that were read into tree entries. Belongs to one thread."""

    def __init__(self, ids: IdKeys, store: BlobStore, counters: Statistics) -> None:
        self._ids = ids
        self._store = store
        self._counters = counters

    def process(self, batch: Batch, data: memoryview) -> list[Result]:
        """The entries of a batch whose bytes lie in ``data`` one behind the other."""
        with self._counters.timed("hash_s"):
            parts = self._identify(batch, data)
        self._keep([part for part in parts if part.blob_id is not ZEROS])
        by_block: dict[int, list[_Part]] = {}
        for part in parts:
            by_block.setdefault(part.task.block, []).append(part)
        return [(task.block, _entry(task, by_block[task.block])) for task in batch.tasks]

    def _identify(self, batch: Batch, data: memoryview) -> list[_Part]:
        parts = []
        position = 0
        for task in batch.tasks:
            for start, end in task.pieces or ((0, task.length_bytes),):
                view = data[position : position + end - start]
                position += end - start
                parts.append(_Part(task, start, view, self._id_of(view)))
        return parts

    def _id_of(self, view: memoryview) -> bytes:
        if is_zero(view):
            self._counters.zero_bytes += len(view)
            return ZEROS
        return self._ids.id_of(BlobType.DATA, view)

    def _keep(self, parts: list[_Part]) -> None:
        fresh = [part for part in parts if not (part.task.pieces is None and part.blob_id == part.task.base)]
        self._counters.unchanged_bytes += _length(parts) - _length(fresh)
        stored = self._store.keep(BlobType.DATA, [(part.blob_id, part.data) for part in fresh])
        new = [part for part, was_stored in zip(fresh, stored, strict=True) if was_stored]
        self._counters.new_bytes += _length(new)
        self._counters.found_bytes += _length(fresh) - _length(new)


def _length(parts: list[_Part]) -> int:
    return sum(len(part.data) for part in parts)


def _entry(task: BlockTask, parts: list[_Part]) -> NodeEntry:
    if task.pieces is None:
        blob_id = parts[0].blob_id
        return None if blob_id is ZEROS else blob_id
    new = tuple(Piece(part.start_bytes, len(part.data), 0, part.blob_id) for part in parts)
    return overlay(task.base, new)


def overlay(base: NodeEntry, new: tuple[Piece, ...]) -> NodeEntry:
    """A block's entry with new pieces on top; old pieces that are covered by one new piece are dropped."""
    below, old = (base.base, base.pieces) if isinstance(base, PiecedBlock) else (base, ())
    pieces = tuple(piece for piece in old if not any(_covers(cover, piece) for cover in new)) + new
    if below is None and all(piece.is_zero for piece in pieces):
        return None
    return PiecedBlock(below, pieces)


def _covers(cover: Piece, piece: Piece) -> bool:
    return cover.offset_bytes <= piece.offset_bytes and piece.end_bytes <= cover.end_bytes
