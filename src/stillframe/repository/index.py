"""The index in memory: finds blobs among all live segments, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillframe.repository.blobs import BlobType, Codec
from stillframe.repository.packs import PackKind, PackRow, pack_name
from stillframe.repository.segments import Ids, Segment, ids_array, merge

_SMALL_ROWS = 1 << 16
"""Segments below this are merged in memory, so that a look-up asks few tables."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a blob lies."""

    pack_id: bytes
    pack_kind: PackKind
    row: PackRow

    @property
    def object_name(self) -> str:
        return pack_name(self.pack_kind, self.pack_id)


class _Table:
    """One segment with the column that makes it searchable."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._prefixes = _prefixes(segment.ids)

    def find(self, keys: Ids, prefixes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Row of each key, -1 where there is none."""
        rows = len(self._prefixes)
        found = np.full(len(keys), -1, np.int64)
        if not rows:
            return found
        position = np.searchsorted(self._prefixes, prefixes)
        open_keys = np.arange(len(keys))
        while len(open_keys):
            inside = position < rows
            open_keys, position = open_keys[inside], position[inside]
            same = self._prefixes[position] == prefixes[open_keys]
            open_keys, position = open_keys[same], position[same]
            hit = (self.segment.ids[position] == keys[open_keys]).all(axis=1)
            found[open_keys[hit]] = position[hit]
            # Another id with the same first eight bytes: look at its neighbour.
            open_keys, position = open_keys[~hit], position[~hit] + 1
        return found

    def location(self, row: int) -> Location:
        segment = self.segment
        number = int(segment.pack_numbers[row])
        return Location(
            segment.packs.ids[number].tobytes(),
            PackKind(int(segment.packs.kinds[number])),
            PackRow(
                segment.ids[row].tobytes(),
                BlobType(int(segment.kinds[row])),
                Codec(int(segment.codecs[row])),
                int(segment.offsets_bytes[row]),
                int(segment.stored_bytes[row]),
                int(segment.lengths_bytes[row]),
            ),
        )


def _prefixes(ids: Ids) -> NDArray[np.uint64]:
    words = np.ascontiguousarray(ids).view(">u8").reshape(len(ids), 4)
    return words[:, 0].astype(np.uint64)


class Index:
    """An immutable view of the live segments; a new one is made when they change."""

    def __init__(self, segments: Mapping[str, Segment]) -> None:
        self.segments = dict(segments)
        small = [segment for segment in self.segments.values() if len(segment) < _SMALL_ROWS]
        large = [segment for segment in self.segments.values() if len(segment) >= _SMALL_ROWS]
        self._tables = [_Table(segment) for segment in large]
        if small:
            self._tables.insert(0, _Table(merge(small)))

    def find(self, blob_ids: Sequence[bytes]) -> list[Location | None]:
        """Where each blob lies; None for the unknown."""
        if not blob_ids:
            return []
        keys = ids_array(blob_ids)
        prefixes = _prefixes(keys)
        answers: list[Location | None] = [None] * len(blob_ids)
        missing = np.arange(len(blob_ids))
        for table in self._tables:
            rows = table.find(keys[missing], prefixes[missing])
            for index in np.flatnonzero(rows >= 0):
                answers[int(missing[index])] = table.location(int(rows[index]))
            missing = missing[rows < 0]
            if not len(missing):
                break
        return answers

    def find_one(self, blob_id: bytes) -> Location | None:
        return self.find([blob_id])[0]

    def has_all(self, blob_ids: Iterable[bytes]) -> bool:
        return all(location is not None for location in self.find(list(blob_ids)))

    @property
    def packs(self) -> dict[bytes, tuple[PackKind, int]]:
        """Every live pack: id to kind and size in bytes."""
        packs: dict[bytes, tuple[PackKind, int]] = {}
        for segment in self.segments.values():
            table = segment.packs
            for number in range(len(table)):
                packs[table.ids[number].tobytes()] = (
                    PackKind(int(table.kinds[number])),
                    int(table.sizes_bytes[number]),
                )
        return packs

    def __len__(self) -> int:
        return sum(len(table.segment) for table in self._tables)
