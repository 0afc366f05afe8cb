"""Verifying one pack against its name, the index and the ids of its blobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blake3 import blake3

from stillframe.repository.errors import DamagedError, UnknownFeatureError
from stillframe.repository.index import Index
from stillframe.repository.packs import PREFIX_BYTES, PackOpener, PackRow, pack_opener
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import ObjectMissingError, StorageError


@dataclass(frozen=True, slots=True)
class PackVerdict:
    """What is wrong with a pack, if anything, and which of its blobs are bad."""

    pack_id: bytes
    name: str
    read_bytes: int
    problem: str | None = None
    bad: frozenset[bytes] = frozenset()


def verify_pack(
    repository: Repository, index: Index, name: str, pack_id: bytes, size_bytes: int, *, read: bool
) -> PackVerdict:
    """Look at a pack: presence and size, or every byte of it."""
    try:
        if not read:
            found_bytes = repository.storage.size(name)
            if found_bytes == size_bytes:
                return PackVerdict(pack_id, name, 0)
            problem = f"is {found_bytes} bytes long instead of {size_bytes}"
            return PackVerdict(pack_id, name, 0, problem, ids_in_pack(index, pack_id))
        data = repository.storage.get(name)
    except ObjectMissingError:
        return PackVerdict(pack_id, name, 0, "is lost", ids_in_pack(index, pack_id))
    except StorageError as error:  # a bad sector, say; the other packs are looked at all the same
        return PackVerdict(pack_id, name, 0, f"cannot be read: {error}", ids_in_pack(index, pack_id))
    rows = index.rows_of(pack_id)
    is_named = blake3(data).digest() == pack_id
    try:
        good = _good_blobs(repository, name, data, rows)
    except UnknownFeatureError:
        if is_named:  # so it was written by a newer version, or for newer keys
            raise
        good = set()
    bad = frozenset(row.blob_id for row in rows) - good
    if bad:
        problem = f"{len(bad)} of its {len(rows)} blobs are damaged"
        return PackVerdict(pack_id, name, len(data), problem, bad)
    if not is_named:
        problem = "its bytes are not what its name says, though all its blobs are good"
        return PackVerdict(pack_id, name, len(data), problem)
    return PackVerdict(pack_id, name, len(data))


def ids_in_pack(index: Index, pack_id: bytes) -> frozenset[bytes]:
    """Ids of the blobs that the index says are in a pack."""
    return frozenset(row.blob_id for row in index.rows_of(pack_id))


def _good_blobs(repository: Repository, name: str, data: bytes, rows: Iterable[PackRow]) -> set[bytes]:
    """Ids of the blobs that decrypt, decode and hash to what they are called, where readers look for them."""
    try:
        opener = pack_opener(name, data[:PREFIX_BYTES], repository.knowledge.bundle)
    except DamagedError:
        return set()
    return {row.blob_id for row in rows if _is_good(repository, opener, row, data)}


def _is_good(repository: Repository, opener: PackOpener, row: PackRow, data: bytes) -> bool:
    stored = memoryview(data)[row.offset_bytes : row.offset_bytes + row.stored_bytes]
    try:
        plain = opener.open(row, stored)
    except DamagedError:
        return False
    return repository.knowledge.ids.id_of(row.kind, plain) == row.blob_id
