"""What a run has stored and relies on until its commit, and the commit (format, section 2, law 3)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stillframe.repository.blobs import ID_BYTES
from stillframe.repository.errors import ConflictError
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.log import Entry
from stillframe.repository.operations import Steps, put_new
from stillframe.repository.packs import SealedPack, StoredPack
from stillframe.repository.points import RecoveryPoint


class Draft:
    """The packs that a run stored, and the blobs of others that it counts on. Safe between threads."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._since = knowledge.state.number
        self._lock = threading.Lock()
        self._packs: list[StoredPack] = []
        self._segments: list[str] = []
        self._new_objects: set[str] = set()
        self._reused: dict[str, bytearray] = {}

    def put_pack(self, pack: SealedPack) -> Steps[None]:
        """Store a pack and remember it."""
        yield from put_new(pack.object_name, pack.data)
        with self._lock:
            self._packs.append(pack.stored)
            self._new_objects.add(pack.object_name)

    def reuse(self, pack_name: str, blob_ids: Iterable[bytes]) -> None:
        """The run counts on blobs that were in the index before."""
        with self._lock:
            self._reused.setdefault(pack_name, bytearray()).extend(b"".join(blob_ids))

    def commit_point(self, point: RecoveryPoint, bases: Sequence[str]) -> Steps[int]:
        """Make the recovery point durable; the number of its log entry.

        ``bases`` are the points from which subtrees were taken without looking into them. After a storage
        error this may be called again: if the entry had been put after all, its number is the answer.

        Raises:
            ConflictError: something that the point builds on was collected meanwhile; make it again.
        """
        json = point.to_json()
        document = {"kind": "point", "point": json, "bases": list(bases)}

        def is_committed() -> bool:
            found = self._knowledge.state.points.get(point.point_id)
            return found is not None and found.to_json() == json

        yield from self._commit(document, bases, is_committed)
        return self._knowledge.state.points[point.point_id].number

    def commit_upload(self, machine: str) -> Steps[int]:
        """Make what was stored so far findable for a later run, should this one not finish."""
        return (yield from self._commit({"kind": "upload", "machine": machine}, (), lambda: False))

    def _commit(
        self, document: dict[str, Any], bases: Sequence[str], is_committed: Callable[[], bool]
    ) -> Steps[int]:
        yield from self._put_segment()

        def build() -> Steps[Entry | None]:
            if is_committed():
                return None
            yield from self._verify(bases)
            return {**document, "add": list(self._segments)}

        number = yield from self._knowledge.log.append(build)
        self._segments.clear()
        return number

    def _put_segment(self) -> Steps[None]:
        from stillframe.repository.segments import encode_segment, segment_of_packs

        with self._lock:
            packs = list(self._packs)
        if packs:
            segment = segment_of_packs(packs)
            name, data = encode_segment(segment, self._knowledge.bundle, self._knowledge.entropy)
            yield from put_new(name, data)
            self._segments.append(name)
            self._new_objects.add(name)
            with self._lock:  # only now: a commit that failed above may be tried again
                del self._packs[: len(packs)]

    def _verify(self, bases: Sequence[str]) -> Steps[None]:
        """Law 3: what the entry builds on is still there after every entry read so far."""
        gone = [base for base in bases if base not in self._knowledge.state.points]
        if gone:
            raise ConflictError(
                f"recovery point {gone[0]}, on which this one builds, was forgotten meanwhile"
            )
        deleted = self._knowledge.log.deleted_since(self._since)
        if deleted & self._new_objects:
            raise ConflictError("what this run stored was collected before its commit")
        with self._lock:  # others go on reusing while an upload is committed
            moved = [name for name in self._reused if name in deleted]
        if moved:
            yield from self._find_again(moved)

    def _find_again(self, moved: Sequence[str]) -> Steps[None]:
        """Packs that the run counts on were collected; consolidation may have kept the blobs elsewhere."""
        yield from self._knowledge.load_segments()
        with self._lock:
            joined = b"".join(self._reused[name] for name in moved)
            blob_ids = [joined[start : start + ID_BYTES] for start in range(0, len(joined), ID_BYTES)]
            found = self._knowledge.index.find(blob_ids)
            if None in found:
                raise ConflictError("blobs that this run counts on were collected before its commit")
            for name in moved:
                del self._reused[name]
        for blob_id, location in zip(blob_ids, found, strict=True):
            assert location is not None
            self.reuse(location.object_name, [blob_id])
