"""Index segments: which blob lies where, immutable and sorted (format, section 6)."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from stillframe.repository.blobs import ID_BYTES, BytesLike
from stillframe.repository.errors import DamagedError
from stillframe.repository.idsearch import Ids, first_of_each, id_order, ids_array
from stillframe.repository.keys import Bundle, Entropy, derive
from stillframe.repository.packs import SALT_BYTES, ZERO_NONCE, StoredPack

MAGIC = b"SFINDX01"
HEADER = struct.Struct("<8sHHI32s")
_COUNTS = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class PackTable:
    """The packs of a segment: ids of shape (P, 32), sizes in bytes, kinds."""

    ids: Ids
    sizes_bytes: NDArray[np.uint64]
    kinds: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Segment:
    """A decoded segment: a table in columns, sorted by blob id."""

    packs: PackTable
    ids: Ids
    pack_numbers: NDArray[np.uint32]
    offsets_bytes: NDArray[np.uint32]
    stored_bytes: NDArray[np.uint32]
    lengths_bytes: NDArray[np.uint32]
    kinds: NDArray[np.uint8]
    codecs: NDArray[np.uint8]
    prefixes: NDArray[np.uint64] | None = None
    """First eight bytes of the ids as numbers, where they came with the segment."""

    def __len__(self) -> int:
        return len(self.ids)


_COLUMNS: tuple[tuple[str, type[Any]], ...] = (
    ("pack_numbers", np.uint32),
    ("offsets_bytes", np.uint32),
    ("stored_bytes", np.uint32),
    ("lengths_bytes", np.uint32),
    ("kinds", np.uint8),
    ("codecs", np.uint8),
)


def segment_of_packs(packs: Iterable[StoredPack]) -> Segment:
    """A segment of packs that were just written."""
    listed = list(packs)
    rows = [(number, row) for number, pack in enumerate(listed) for row in pack.rows]
    table = PackTable(
        ids_array([pack.pack_id for pack in listed]),
        np.array([pack.size_bytes for pack in listed], np.uint64),
        np.array([pack.kind for pack in listed], np.uint8),
    )
    unsorted = Segment(
        table,
        ids_array([row.blob_id for _, row in rows]),
        np.array([number for number, _ in rows], np.uint32),
        np.array([row.offset_bytes for _, row in rows], np.uint32),
        np.array([row.stored_bytes for _, row in rows], np.uint32),
        np.array([row.length_bytes for _, row in rows], np.uint32),
        np.array([row.kind for _, row in rows], np.uint8),
        np.array([row.codec for _, row in rows], np.uint8),
    )
    return take_rows(unsorted, id_order(unsorted.ids))


def take_rows(segment: Segment, rows: NDArray[Any]) -> Segment:
    """The same packs with some rows, in the given order."""
    return Segment(
        segment.packs,
        segment.ids[rows],
        segment.pack_numbers[rows],
        segment.offsets_bytes[rows],
        segment.stored_bytes[rows],
        segment.lengths_bytes[rows],
        segment.kinds[rows],
        segment.codecs[rows],
    )


def merge(segments: Sequence[Segment]) -> Segment:
    """All rows and packs of several segments as one; a pack that several list appears once."""
    table, renumbered = _merged_packs([segment.packs for segment in segments])
    numbers = [
        renumbering[segment.pack_numbers] for segment, renumbering in zip(segments, renumbered, strict=True)
    ]
    joined = Segment(
        table,
        np.concatenate([segment.ids for segment in segments]) if segments else ids_array([]),
        np.concatenate(numbers) if segments else np.empty(0, np.uint32),
        *(_column(segments, name, kind) for name, kind in _COLUMNS[1:]),
    )
    return take_rows(joined, id_order(joined.ids))


def _column(segments: Sequence[Segment], name: str, kind: type[Any]) -> NDArray[Any]:
    if not segments:
        return np.empty(0, kind)
    return np.concatenate([getattr(segment, name) for segment in segments])


def _merged_packs(tables: Sequence[PackTable]) -> tuple[PackTable, list[NDArray[np.uint32]]]:
    """Each pack once, by id; and for each table, the new numbers of its packs."""
    ids = np.concatenate([ids_array([]), *(table.ids for table in tables)])
    sizes = np.concatenate([np.empty(0, np.uint64), *(table.sizes_bytes for table in tables)])
    kinds = np.concatenate([np.empty(0, np.uint8), *(table.kinds for table in tables)])
    order = id_order(ids)
    is_first = first_of_each(ids[order])
    numbers = np.empty(len(ids), np.uint32)
    numbers[order] = np.cumsum(is_first) - 1
    kept = order[is_first]
    bounds = np.cumsum([len(table) for table in tables])[:-1]
    return PackTable(ids[kept], sizes[kept], kinds[kept]), np.split(numbers, bounds) if tables else []


def without_packs(segment: Segment, dropped: set[bytes]) -> Segment:
    """The segment without some packs and their rows."""
    keep = np.array(
        [segment.packs.ids[number].tobytes() not in dropped for number in range(len(segment.packs))], bool
    )
    numbers = np.cumsum(keep, dtype=np.uint32) - np.uint32(1)
    rows = take_rows(segment, keep[segment.pack_numbers] if len(segment) else np.empty(0, bool))
    table = PackTable(segment.packs.ids[keep], segment.packs.sizes_bytes[keep], segment.packs.kinds[keep])
    return Segment(
        table,
        rows.ids,
        numbers[rows.pack_numbers],
        rows.offsets_bytes,
        rows.stored_bytes,
        rows.lengths_bytes,
        rows.kinds,
        rows.codecs,
    )


def encode_segment(segment: Segment, bundle: Bundle, entropy: Entropy = os.urandom) -> tuple[str, bytes]:
    """Object name and bytes of a segment."""
    salt = entropy(SALT_BYTES)
    header = HEADER.pack(MAGIC, bundle.epoch, 0, 0, salt)
    payload = b"".join(segment_payload(segment))
    data = header + _cipher("a new segment", bundle, bundle.epoch, salt).encrypt(ZERO_NONCE, payload, header)
    return _segment_name(data), data


def segment_payload(segment: Segment) -> list[bytes]:
    """The payload of a segment, in parts."""
    return [
        _COUNTS.pack(len(segment.packs), len(segment)),
        segment.packs.ids.tobytes(),
        segment.packs.sizes_bytes.tobytes(),
        segment.packs.kinds.tobytes(),
        segment.ids.tobytes(),
        *(np.ascontiguousarray(getattr(segment, name), kind).tobytes() for name, kind in _COLUMNS),
    ]


def decode_segment(name: str, data: BytesLike, bundle: Bundle) -> Segment:
    """The segment behind an object.

    The name is checked too: an old segment in the place of a live one would make writers count on blobs that
    are gone.

    Raises:
        DamagedError: it is not what was written.
    """
    if len(data) < HEADER.size:
        raise DamagedError(f"{name}: is too short to be an index segment")
    magic, epoch, _, _, salt = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DamagedError(f"{name}: does not begin like an index segment")
    if name != _segment_name(data):
        raise DamagedError(f"{name}: its bytes are not those that its name stands for")
    view = memoryview(data)
    try:
        payload = _cipher(name, bundle, epoch, salt).decrypt(
            ZERO_NONCE, view[HEADER.size :], bytes(view[: HEADER.size])
        )
    except InvalidTag as error:
        raise DamagedError(f"{name}: is damaged") from error
    return parse_payload(name, payload)


def parse_payload(name: str, payload: bytes | mmap.mmap, *, with_prefixes: bool = False) -> Segment:
    """The segment over a payload, without copying it; a cached one has the search column behind it.

    Raises:
        DamagedError: it is no payload.
    """
    if len(payload) < _COUNTS.size:
        raise DamagedError(f"{name}: is too short to be an index segment")
    packs, rows = _COUNTS.unpack_from(payload)
    row_bytes = ID_BYTES + 18 + (8 if with_prefixes else 0)
    expected = _COUNTS.size + packs * (ID_BYTES + 9) + rows * row_bytes
    if len(payload) != expected:
        raise DamagedError(f"{name}: is {len(payload)} bytes long instead of {expected}")
    position = _COUNTS.size

    def take(count: int, kind: type[Any]) -> NDArray[Any]:
        nonlocal position
        column: NDArray[Any] = np.frombuffer(payload, kind, count, position)
        position += column.nbytes
        return column

    table = PackTable(
        take(packs * ID_BYTES, np.uint8).reshape(packs, ID_BYTES),
        take(packs, np.uint64),
        take(packs, np.uint8),
    )
    ids = take(rows * ID_BYTES, np.uint8).reshape(rows, ID_BYTES)
    segment = Segment(table, ids, *(take(rows, kind) for _, kind in _COLUMNS))
    if with_prefixes:
        return replace(segment, prefixes=take(rows, np.uint64))
    if rows and int(segment.pack_numbers.max()) >= packs:
        raise DamagedError(f"{name}: a row names a pack that the segment does not list")
    return segment


def _segment_name(data: BytesLike) -> str:
    return f"index/{blake3(data).hexdigest()}"


def _cipher(name: str, bundle: Bundle, epoch: int, salt: bytes) -> AESGCM:
    return AESGCM(derive("index", bundle.keys_of(epoch, name).metadata_key + salt))
