"""What must hold, read from the bytes in storage alone: the log folded a second time, by other code.

The laws that are checked are those of the format, section 2, in the words of who reads: after every log entry
each live point's blobs are in live segments, in packs that no entry deleted; and all that live segments name
is in storage, whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blake3 import blake3

from stillframe.repository.blobs import BytesLike
from stillframe.repository.entries import ENTRY_MAGIC, NO_PREVIOUS, EntrySealer, entry_hash, entry_name
from stillframe.repository.errors import DamagedError
from stillframe.repository.nodes import decode_node
from stillframe.repository.operations import Delete, Operation, Put
from stillframe.repository.packs import PackKind, PackRow, pack_name, read_blobs
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.segments import decode_segment
from tests.repository.explorer.places import Place
from tests.repository.make import BUNDLE, REPOSITORY_ID
from tests.repository.storage.memory import MemoryStorage

Content = tuple[bytes | None, ...]
"""The blocks of a point's disk."""


class WrongError(AssertionError):
    """A law is broken."""


@dataclass(frozen=True, slots=True)
class View:
    """The log up to one entry, folded. ``needed`` are the objects that have to be in storage, whole."""

    number: int = 0
    last_hash: bytes = NO_PREVIOUS
    points: Mapping[str, RecoveryPoint] = field(default_factory=dict)
    ever: frozenset[str] = frozenset()
    forgotten: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()
    deleted: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()
    stuck: bool = False
    """The next entry is there and cannot be read: nobody gets past it."""


class Oracle:
    """Judges places. Knows all objects that were ever stored whole, by name."""

    def __init__(self, contents: Mapping[str, Content]) -> None:
        self._contents = contents
        self._sealer = EntrySealer(BUNDLE, REPOSITORY_ID)
        self._whole: dict[str, bytes] = {}
        self._views: dict[tuple[int, bytes, bytes | None], View] = {}
        self._folded_places: dict[Place, View] = {}
        self._rows: dict[str, dict[bytes, set[str]]] = {}
        self._packs: dict[str, frozenset[str]] = {}
        self._blobs: dict[bytes, bytes] = {}

    def learn(self, objects: Mapping[str, bytes]) -> None:
        """Remember what was stored, if it is whole."""
        for name, data in objects.items():
            if name not in self._whole and name.rpartition("/")[2] == blake3(data).hexdigest():
                self._whole[name] = data
                if name.startswith("index/"):
                    self._learn_segment(name, data)
                else:
                    self._learn_pack(name, data)

    def _learn_segment(self, name: str, data: bytes) -> None:
        segment = decode_segment(name, data, BUNDLE)
        packs = [
            pack_name(PackKind(int(kind)), pack_id.tobytes())
            for kind, pack_id in zip(segment.packs.kinds, segment.packs.ids, strict=True)
        ]
        rows: dict[bytes, set[str]] = {}
        for blob_id, number in zip(segment.ids, segment.pack_numbers, strict=True):
            rows.setdefault(blob_id.tobytes(), set()).add(packs[int(number)])
        self._rows[name], self._packs[name] = rows, frozenset(packs)

    def _learn_pack(self, name: str, data: bytes) -> None:
        for row, blob in read_blobs(name, data, BUNDLE):
            assert isinstance(row, PackRow)
            if isinstance(blob, DamagedError):
                raise WrongError(f"{name} was stored damaged") from blob
            self._blobs[row.blob_id] = bytes(blob)

    # The log

    def view(self, place: Place) -> View:
        """The log of a place, folded; every law that the log alone can break is checked."""
        if place in self._folded_places:
            return self._folded_places[place]
        view = View()
        while not view.stuck:
            data = place.objects.get(entry_name(view.number + 1))
            if data is None:
                break
            view = self._after(view, data)
        self._folded_places[place] = view
        return view

    def _after(self, view: View, data: bytes) -> View:
        key = view.number, view.last_hash, data
        if key not in self._views:
            self._views[key] = self._judged(self._folded(view, data))
        return self._views[key]

    def _folded(self, view: View, data: bytes) -> View:
        number = view.number + 1
        try:
            entry = self._sealer.open(ENTRY_MAGIC, number, data, "")
        except DamagedError:
            return replace(view, stuck=True)
        if entry["previous"] != view.last_hash.hex():
            raise WrongError(f"entry {number} does not follow the one before")
        view = replace(view, number=number, last_hash=entry_hash(data))
        return replace(view, **_CHANGES[entry["kind"]](view, entry))

    def _judged(self, view: View) -> View:
        packs = frozenset().union(*(self._packs_of(name) for name in view.segments))
        if gone := (packs | view.segments) & view.deleted:
            raise WrongError(f"live segments name what entries up to {view.number} deleted: {sorted(gone)}")
        held = {blob_id for name in view.segments for blob_id in self._rows[name]}
        for point in view.points.values():
            if any(blob_id not in held for blob_id in self._reached(point)):
                raise WrongError(f"entry {view.number} leaves point {point.point_id} without a blob")
            if self._content(point) != self._contents[point.point_id]:
                raise WrongError(f"point {point.point_id} is not what was to be protected")
        return replace(view, needed=packs | view.segments)

    def _packs_of(self, segment: str) -> frozenset[str]:
        if segment not in self._packs:
            raise WrongError(f"the log names {segment}, which was never stored whole")
        return self._packs[segment]

    def _reached(self, point: RecoveryPoint) -> Iterator[bytes]:
        """Disks here are of one node."""
        for disk in point.disks:
            if disk.root is not None:
                yield disk.root
                if disk.root in self._blobs:
                    yield from decode_node(self._blobs[disk.root], 0, "").references()

    def _content(self, point: RecoveryPoint) -> Content:
        (disk,) = point.disks
        if disk.root is None:
            return (None,) * disk.block_count
        entries = decode_node(self._blobs[disk.root], 0, "").entries
        blocks = [self._blobs[entry] if isinstance(entry, bytes) else None for entry in entries]
        return tuple(blocks + [None] * (disk.block_count - len(blocks)))

    # The storage

    def require_all(self, place: Place, view: View) -> None:
        """All that the log names is there, whole."""
        for name in view.needed:
            if place.objects.get(name) != self._whole.get(name, b"never stored"):
                raise WrongError(f"{name} is needed after entry {view.number} and is not there, or not whole")

    def require_allowed(self, operation: Operation, before: View, *, may_delete: bool) -> None:
        """The operation keeps the order of bytes and entries."""
        if isinstance(operation, Delete):
            if not may_delete:
                raise WrongError(f"who deletes {operation.name} is no collector")
            if operation.name not in before.deleted:
                raise WrongError(f"{operation.name} is deleted, and no entry says so")
        if isinstance(operation, Put) and operation.name.startswith("log/"):
            number = int(operation.name.rpartition("/")[2])
            if number > before.number + 1:
                raise WrongError(f"entry {number} is put after entry {before.number}")

    def blobs_of(self, names: Sequence[str]) -> Iterator[bytes]:
        """The ids in segments, once for each copy."""
        for name in names:
            for blob_id, packs in self._rows[name].items():
                yield from [blob_id] * len(packs)

    def live_blobs(self, view: View) -> set[bytes]:
        return {blob_id for point in view.points.values() for blob_id in self._reached(point)}


class TeachingStorage(MemoryStorage):
    """Tells the oracle of everything that is put."""

    def __init__(self, objects: Mapping[str, bytes], oracle: Oracle) -> None:
        super().__init__(objects)
        self._oracle = oracle

    def put_if_absent(self, name: str, data: BytesLike) -> bool:
        self._oracle.learn({name: bytes(data)})
        return super().put_if_absent(name, data)


def _add(view: View, entry: dict[str, Any]) -> dict[str, Any]:
    return {"segments": view.segments | set(entry["add"])}


def _point(view: View, entry: dict[str, Any]) -> dict[str, Any]:
    point = RecoveryPoint.from_json(entry["point"], view.number)
    if point.point_id in view.points:
        raise WrongError(f"point {point.point_id} is committed twice")
    if lost := [base for base in entry["bases"] if base not in view.points]:
        raise WrongError(f"point {point.point_id} is committed on forgotten points {lost}")
    points = {**view.points, point.point_id: point}
    return {**_add(view, entry), "points": points, "ever": view.ever | {point.point_id}}


def _forget(view: View, entry: dict[str, Any]) -> dict[str, Any]:
    gone = set(entry["points"])
    points = {name: point for name, point in view.points.items() if name not in gone}
    return {"points": points, "forgotten": view.forgotten | (gone & view.points.keys())}


def _rewrite(view: View, entry: dict[str, Any]) -> dict[str, Any]:
    if strange := set(entry["drop"]) - view.segments:
        raise WrongError(f"entry {view.number} drops {sorted(strange)}, which are not live")
    return {
        "segments": (view.segments - set(entry["drop"])) | set(entry["add"]),
        "deleted": view.deleted | set(entry["delete"]),
    }


_CHANGES = {"point": _point, "forget": _forget, "upload": _add, "rewrite": _rewrite}
