"""Storing blobs: deduplicate, compress, encrypt, decode again, pack."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from stillframe.repository.blobs import BlobType, BytesLike, Compressor, IdKeys
from stillframe.repository.draft import Draft
from stillframe.repository.errors import DamagedError
from stillframe.repository.ingest.statistics import Statistics
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.packs import PackBuilder, PackKind, PackMemory, SealedPack

Ship = Callable[[SealedPack], None]
"""Takes a finished pack; may wait, which is how a slow storage slows the run down."""


class Claims:
    """Ids that some thread of this run stores, so that no other does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: set[bytes] = set()

    def claim(self, blob_ids: Sequence[bytes]) -> list[bool]:
        """For each id: True if the caller is to store it, False if another thread does or did."""
        with self._lock:
            answers = []
            for blob_id in blob_ids:
                answers.append(blob_id not in self._ids)
                self._ids.add(blob_id)
            return answers

    def clear(self) -> None:
        """What was claimed is in the index by now."""
        with self._lock:
            self._ids.clear()


class Packer:
    """Packs new blobs of one kind of pack. Belongs to one thread."""

    def __init__(
        self,
        kind: PackKind,
        knowledge: Knowledge,
        compressor: Compressor,
        ship: Ship,
        counters: Statistics,
        memory: PackMemory,
    ) -> None:
        self._memory = memory
        self._kind = kind
        self._knowledge = knowledge
        self._ids: IdKeys = knowledge.ids
        self._compressor = compressor
        self._ship = ship
        self._counters = counters
        self._builder: PackBuilder | None = None

    def store(self, blob_id: bytes, kind: BlobType, data: BytesLike) -> None:
        """Put a blob into the open pack, and make sure that it can be read from there."""
        if self._builder is None:
            config = self._knowledge.config
            self._builder = PackBuilder(
                self._kind,
                self._knowledge.bundle,
                config.pack_bytes,
                self._knowledge.entropy,
                self._memory,
            )
        with self._counters.timed("compress_s"):
            codec, coded = self._compressor.encode(data)
        with self._counters.timed("encrypt_s"):
            row = self._builder.add(blob_id, kind, codec, coded, len(data))
        with self._counters.timed("verify_s"):
            if self._ids.id_of(kind, self._builder.read_back(row)) != blob_id:
                raise DamagedError(
                    "a block read back from memory is not what was put there",
                    hint="The source changed while it was read, or this machine's memory is faulty.",
                )
        if self._builder.is_full:
            self.flush()

    def flush(self) -> None:
        """Ship the open pack, full or not."""
        if self._builder is not None:
            pack = self._builder.seal()
            self._builder = None
            stored = sum(row.stored_bytes for row in pack.stored.rows)
            if self._kind is PackKind.DATA:
                self._counters.stored_bytes += stored
            else:
                self._counters.metadata_bytes += stored
            self._counters.packs += 1
            self._ship(pack)


class BlobStore:
    """Looks up, claims and packs the blobs of one thread."""

    def __init__(
        self, draft: Draft, knowledge: Knowledge, claims: Claims, packer: Packer, counters: Statistics
    ) -> None:
        self._draft = draft
        self._knowledge = knowledge
        self._claims = claims
        self._packer = packer
        self._counters = counters

    def keep(self, kind: BlobType, blobs: Sequence[tuple[bytes, BytesLike]]) -> list[bool]:
        """Make sure that the repository has these blobs; True for each that had to be stored."""
        if not blobs:
            return []
        with self._counters.timed("look_up_s"):
            locations = self._knowledge.index.find([blob_id for blob_id, _ in blobs])
            unknown = [number for number, location in enumerate(locations) if location is None]
            claimed = self._claims.claim([blobs[number][0] for number in unknown])
            for location in locations:
                if location is not None:
                    self._draft.reuse(location.object_name, (location.row.blob_id,))
        stored = [False] * len(blobs)
        for number, ours in zip(unknown, claimed, strict=True):
            if ours:
                blob_id, data = blobs[number]
                self._packer.store(blob_id, kind, data)
                stored[number] = True
        return stored
