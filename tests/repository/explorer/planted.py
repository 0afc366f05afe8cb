"""The protocol with one law broken each: what the explorer must find, or it proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

from stillframe.repository.blobs import BlobType, BytesLike
from stillframe.repository.collection import marking
from stillframe.repository.collection.copying import copy_blobs
from stillframe.repository.collection.marking import Tree, fetch_nodes
from stillframe.repository.collection.plan import PlannedPack
from stillframe.repository.draft import Draft
from stillframe.repository.errors import DamagedError
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.log import Entry
from stillframe.repository.nodes import Node
from stillframe.repository.operations import Delete, ListNames, Put, Steps
from stillframe.repository.packs import StoredPack
from stillframe.repository.reading import BlobReader
from stillframe.repository.segments import encode_segment, segment_of_packs
from stillframe.repository.state import State
from stillframe.repository.storage.base import ObjectMissingError
from tests.repository.explorer.explore import Patch

collect = import_module("stillframe.repository.collection.collect")  # the package has a function of that name


def _makes_sure_of_nothing(*_: object, **__: object) -> Steps[None]:
    yield from ()


def _requires_nothing(*_: object) -> None:
    return


def _copies_and_deletes(knowledge: Knowledge, planned: Iterable[PlannedPack]) -> Steps[list[StoredPack]]:
    packs = list(planned)
    copied = yield from copy_blobs(knowledge, packs)
    for pack in packs:
        yield Delete(pack.object_name)
    return copied


def _commits_before_the_segment(
    self: Draft, document: dict[str, Any], bases: Sequence[str], _: Callable[[], bool]
) -> Steps[int]:
    segment = segment_of_packs(self._packs)
    name, data = encode_segment(segment, self._knowledge.bundle, self._knowledge.entropy)

    def build() -> Steps[Entry]:
        yield from self._verify(bases)
        return {**document, "add": [name]}

    number = yield from self._knowledge.log.append(build)
    yield Put(name, data)
    return number


def _believes_listings(knowledge: Knowledge, trees: list[Tree]) -> Steps[list[Node]]:
    listed: list[str] = yield ListNames("meta/")
    locations = knowledge.index.find([node_id for node_id, _ in trees])
    there = [
        tree
        for tree, location in zip(trees, locations, strict=True)
        if location is not None and location.object_name in listed
    ]
    return (yield from fetch_nodes(knowledge, there))


class _Everything(frozenset[str]):
    """A set that has all names."""

    def __rand__(self, other: Any) -> frozenset[str]:
        return frozenset(other)


def _looks_once(self: BlobReader, blob_id: bytes, kind: BlobType, failure: object) -> BytesLike:
    self._refresh()
    location = self._knowledge.index.find_one(blob_id)
    assert location is not None
    try:
        return self.read_at(location, kind)
    except ObjectMissingError as error:
        raise DamagedError(f"{location.object_name}: is lost") from error


COLLECTOR_DOES_NOT_MARK_AGAIN: Patch = (collect, "_verify", _makes_sure_of_nothing)
COLLECTOR_FORGETS_ITS_BASIS: Patch = (collect, "_require_basis", _requires_nothing)
COLLECTOR_FORGETS_ITS_COPIES: Patch = (collect, "require_undeleted", _requires_nothing)
COLLECTOR_DELETES_FIRST: Patch = (collect, "copy_blobs", _copies_and_deletes)
COLLECTOR_BELIEVES_LISTINGS: Patch = (marking, "fetch_nodes", _believes_listings)
COLLECTOR_HAS_NO_SUSPECTS: Patch = (State, "suspects", property(lambda _: _Everything(), _requires_nothing))
WRITER_DOES_NOT_CHECK: Patch = (Draft, "_verify", _makes_sure_of_nothing)
WRITER_PUTS_SEGMENT_LAST: Patch = (Draft, "_commit", _commits_before_the_segment)
READER_LOOKS_ONCE: Patch = (BlobReader, "_read_elsewhere", _looks_once)
