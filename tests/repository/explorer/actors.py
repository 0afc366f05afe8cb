"""Who works on the repository: production code, each with its own knowledge.

Disks have two blocks at most under one node, so that a point is two blobs and a few operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stillframe.disk.still import Geometry
from stillframe.repository.blobs import BlobType, Codec
from stillframe.repository.collection import collect_steps
from stillframe.repository.collection.consolidate import consolidate_steps
from stillframe.repository.collection.marking import fetch_nodes
from stillframe.repository.config import Config
from stillframe.repository.draft import Draft
from stillframe.repository.errors import ConflictError
from stillframe.repository.keys import Bundle
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.nodes import NodeEntry, encode_node
from stillframe.repository.operations import Steps, drive
from stillframe.repository.packs import PackBuilder, PackKind
from stillframe.repository.points import PointDisk, RecoveryPoint
from stillframe.repository.reading import BlobReader
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import Storage, StorageError
from tests.repository.explorer.moments import Actor
from tests.repository.explorer.oracle import Content
from tests.repository.explorer.threads import as_steps
from tests.repository.make import BLOCK_BYTES, BUNDLE, WRITER, make_config, make_point, seeded

BLOB_BYTES = 256
"""Less than a block, which is continued by zeros: every step is to cost little."""

PACK_BYTES = 4096


def config() -> Config:
    return make_config(fan_out=2, pack_bytes=PACK_BYTES)


def knowledge_of(name: str, bundle: Bundle = BUNDLE) -> Knowledge:
    return Knowledge(config(), bundle, seeded(name))


def block(letter: str) -> bytes | None:
    """``.`` is a block of zeros."""
    return None if letter == "." else letter.encode() * BLOB_BYTES


def content(letters: str) -> Content:
    return tuple(block(letter) for letter in letters)


def point_named(name: str, letters: str, root: bytes | None) -> RecoveryPoint:
    disk = PointDisk("disk", "disk", Geometry(len(letters) * BLOCK_BYTES), BLOCK_BYTES, root)
    return make_point(name, [disk])


def point_id(name: str) -> str:
    return make_point(name).point_id


# Writers


def writer(name: str, letters: str, base: str = "", *, life: int = 0) -> Actor:
    """Protects a disk and, when it is told of a conflict, does it again from the start.

    With a base, the first block is taken from that point without a look, as long as the point lives.
    """

    def start() -> Steps[str | Actor]:
        knowledge = knowledge_of(f"{name} {life}", WRITER)
        try:
            yield from knowledge.refresh()
            yield from _protect(knowledge, name, letters, base)
        except ConflictError:
            return writer(name, letters, base, life=life + 1)
        return point_id(name)

    return Actor(name, start, life=life)


def _protect(knowledge: Knowledge, name: str, letters: str, base: str) -> Steps[None]:
    draft = Draft(knowledge)
    root = yield from _store(knowledge, draft, letters, base)
    bases = [point_id(base)] if base and point_id(base) in knowledge.state.points else []
    yield from draft.commit_point(point_named(name, letters, root), bases)


def _store(knowledge: Knowledge, draft: Draft, letters: str, base: str = "") -> Steps[bytes]:
    entries: list[NodeEntry] = [
        knowledge.ids.id_of(BlobType.DATA, data) if data else None for data in content(letters)
    ]
    parent = knowledge.state.points.get(point_id(base)) if base else None
    unseen = 0
    if parent is not None and parent.disks[0].root is not None:
        (node,) = yield from fetch_nodes(knowledge, [(parent.disks[0].root, 0)])
        assert node.entries[0] == entries[0], "the scenario says that the first block is the base's"
        unseen = 1
    yield from _keep(knowledge, draft, BlobType.DATA, [data for data in content(letters)[unseen:] if data])
    node_bytes = encode_node(0, entries)
    yield from _keep(knowledge, draft, BlobType.NODE, [node_bytes])
    return knowledge.ids.id_of(BlobType.NODE, node_bytes)


def _keep(knowledge: Knowledge, draft: Draft, kind: BlobType, blobs: Iterable[bytes]) -> Steps[None]:
    """Put a pack of what the index does not have."""
    wanted = {knowledge.ids.id_of(kind, blob): blob for blob in blobs}
    missing = []
    for blob_id, location in zip(wanted, knowledge.index.find(list(wanted)), strict=True):
        if location is None:
            missing.append(blob_id)
        else:
            draft.reuse(location.object_name, [blob_id])
    if missing:
        builder = PackBuilder(
            PackKind.holding(kind), knowledge.bundle, knowledge.config.pack_bytes, knowledge.entropy
        )
        for blob_id in missing:
            builder.add(blob_id, kind, Codec.PLAIN, wanted[blob_id], len(wanted[blob_id]))
        yield from draft.put_pack(builder.seal())


def stubborn_writer(name: str, letters: str) -> Actor:
    """Tries the commit again when the storage has failed, with the same draft."""

    def start() -> Steps[str]:
        knowledge = knowledge_of(name, WRITER)
        yield from knowledge.refresh()
        draft = Draft(knowledge)
        point = point_named(name, letters, (yield from _store(knowledge, draft, letters)))
        try:
            yield from draft.commit_point(point, [])
        except StorageError:
            yield from draft.commit_point(point, [])
        return point_id(name)

    return Actor(name, start)


def dying_uploader(name: str, letters: str) -> Actor:
    """Stores its blobs and is never heard of again."""

    def start() -> Steps[None]:
        knowledge = knowledge_of(name, WRITER)
        yield from knowledge.refresh()
        yield from _store(knowledge, Draft(knowledge), letters)

    return Actor(name, start)


def slow_writer(name: str, first: str, letters: str, *, life: int = 0) -> Actor:
    """Makes the first block findable by an upload entry, then goes on and commits all."""

    def start() -> Steps[str | Actor]:
        knowledge = knowledge_of(f"{name} {life}", WRITER)
        try:
            yield from knowledge.refresh()
            draft = Draft(knowledge)
            yield from _keep(knowledge, draft, BlobType.DATA, [data for data in content(first) if data])
            yield from draft.commit_upload("machine")
            yield from knowledge.refresh()
            root = yield from _store(knowledge, draft, letters)
            yield from draft.commit_point(point_named(name, letters, root), [])
        except ConflictError:
            return slow_writer(name, first, letters, life=life + 1)
        return point_id(name)

    return Actor(name, start, life=life)


# Forgetting and collecting


def forgetter(name: str, *points: str) -> Actor:
    """Forgets points."""

    def start() -> Steps[None]:
        knowledge = knowledge_of(name)
        yield from knowledge.log.open()
        forgotten = [point_id(point) for point in points]
        yield from as_steps(lambda storage: Repository(storage, knowledge).forget(forgotten, "tested"))

    return Actor(name, start)


def collector(
    name: str, times: int = 1, bundle: Bundle = BUNDLE, *, head_start: bool = True, life: int = 0
) -> Actor:
    """Collects, several times one after the other."""

    def start() -> Steps[Actor | None]:
        yield from collect_steps(knowledge_of(f"{name} {life}", bundle))
        return collector(name, times - 1, bundle, life=life + 1) if times > 1 else None

    return Actor(name, start, may_delete=True, head_start=head_start, life=life)


# Readers


def reader(name: str, point: str) -> Actor:
    """Reads all blocks of a point, if it lives; the result are the blocks."""

    def start() -> Steps[Content | None]:
        return as_steps(lambda storage: read_point(storage, knowledge_of(name), point_id(point)))

    return Actor(name, start, head_start=False)


def read_point(storage: Storage, knowledge: Knowledge, wanted: str) -> Content | None:
    drive(knowledge.refresh(), storage)
    point = knowledge.state.points.get(wanted)
    if point is None:
        return None
    disk = point.disks[0]
    blobs = BlobReader(storage, knowledge)
    entries: Sequence[NodeEntry] = blobs.read_node(disk.root, 0).entries if disk.root else ()
    blocks = [
        bytes(blobs.read(entry, BlobType.DATA)) if isinstance(entry, bytes) else None for entry in entries
    ]
    return tuple(blocks + [None] * (disk.block_count - len(blocks)))


def merger(name: str) -> Actor:
    """Merges small index segments, as writers do after a commit."""

    def start() -> Steps[None]:
        knowledge = knowledge_of(name, WRITER)
        yield from knowledge.refresh()
        yield from consolidate_steps(knowledge)

    return Actor(name, start, may_delete=True)


def run(actor: Actor, storage: Storage) -> None:
    """Let an actor do all its work alone."""
    result: object = actor
    while isinstance(result, Actor):
        result = drive(result.start(), storage)
