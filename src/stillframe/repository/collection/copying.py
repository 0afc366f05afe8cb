"""Copying live blobs into new packs; every one is decoded and checked on its way."""

from __future__ import annotations

from collections.abc import Iterable

from stillframe.repository.collection.plan import PlannedPack
from stillframe.repository.errors import ConflictError, DamagedError
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.operations import Get, Steps, put_new
from stillframe.repository.packs import PackBuilder, PackKind, StoredPack, pack_opener, split_pack
from stillframe.repository.storage.base import ObjectMissingError


def copy_blobs(knowledge: Knowledge, planned: Iterable[PlannedPack]) -> Steps[list[StoredPack]]:
    """Put new packs with the live blobs of the planned ones; what was put.

    Raises:
        DamagedError: a live blob is damaged: it is not copied, and nothing is deleted.
        ConflictError: a pack is gone; another collection may have been here.
    """
    builders: dict[PackKind, PackBuilder] = {}
    done: list[StoredPack] = []
    for pack in planned:
        if pack.live_bytes:
            builder = builders.get(pack.kind) or _new_builder(knowledge, pack.kind)
            yield from _copy_from(knowledge, pack, builder)
            builders[pack.kind] = builder
            if builder.is_full:
                done.append((yield from _finish(builders.pop(pack.kind))))
    for builder in builders.values():
        last = yield from _finish(builder)
        done.append(last)
    return done


def _new_builder(knowledge: Knowledge, kind: PackKind) -> PackBuilder:
    return PackBuilder(kind, knowledge.bundle, knowledge.config.pack_bytes, knowledge.entropy)


def _copy_from(knowledge: Knowledge, pack: PlannedPack, builder: PackBuilder) -> Steps[None]:
    name = pack.object_name
    try:
        data: bytes = yield Get(name)
    except ObjectMissingError as error:
        raise ConflictError(f"{name}: is gone, though it holds live blobs") from error
    prefix, rows = split_pack(name, data, knowledge.bundle)
    opener = pack_opener(name, prefix, knowledge.bundle)
    wanted = {blob_id.tobytes() for blob_id in pack.copy}
    for row in rows:
        if row.blob_id in wanted:
            stored = memoryview(data)[row.offset_bytes : row.offset_bytes + row.stored_bytes]
            coded = opener.decrypted(row, stored)
            plain = opener.decoded(row, coded)
            if knowledge.ids.id_of(row.kind, plain) != row.blob_id:
                raise DamagedError(f"{name}: blob {row.blob_id.hex()[:16]} is not what its id says")
            builder.add(row.blob_id, row.kind, row.codec, coded, row.length_bytes)
            wanted.discard(row.blob_id)
    if wanted:
        raise DamagedError(f"{name}: lacks {len(wanted)} blobs that the index says it holds")


def _finish(builder: PackBuilder) -> Steps[StoredPack]:
    pack = builder.seal()
    yield from put_new(pack.object_name, pack.data)
    return pack.stored
