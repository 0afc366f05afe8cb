"""The index in memory: finds blobs among all live segments, in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stillframe.repository.blobs import BlobType, Codec
from stillframe.repository.idsearch import Ids, find_rows, ids_array, prefixes_of
from stillframe.repository.packs import PackKind, PackRow, pack_name
from stillframe.repository.segments import Segment, merge

_SMALL_ROWS = 1 << 13
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
        self._prefixes = prefixes_of(segment.ids) if segment.prefixes is None else segment.prefixes

    def find(self, keys: Ids) -> NDArray[np.int64]:
        """Row of each key, -1 where there is none."""
        return find_rows(self.segment.ids, self._prefixes, keys)

    def location(self, row: int) -> Location:
        segment = self.segment
        number = int(segment.pack_numbers[row])
        return Location(
            segment.packs.ids[number].tobytes(),
            PackKind(int(segment.packs.kinds[number])),
            pack_row(segment, row),
        )


def pack_row(segment: Segment, row: int) -> PackRow:
    """A row of a segment as the pack's directory has it."""
    return PackRow(
        segment.ids[row].tobytes(),
        BlobType(int(segment.kinds[row])),
        Codec(int(segment.codecs[row])),
        int(segment.offsets_bytes[row]),
        int(segment.stored_bytes[row]),
        int(segment.lengths_bytes[row]),
    )


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
        answers: list[Location | None] = [None] * len(blob_ids)
        missing = np.arange(len(blob_ids))
        for table in self._tables:
            rows = table.find(keys[missing])
            for index in np.flatnonzero(rows >= 0):
                answers[int(missing[index])] = table.location(int(rows[index]))
            missing = missing[rows < 0]
            if not len(missing):
                break
        return answers

    def find_one(self, blob_id: bytes) -> Location | None:
        return self.find([blob_id])[0]

    def copies(self, blob_id: bytes) -> list[Location]:
        """Every place where a blob lies; slower than ``find_one``."""
        locations = []
        for table in self._tables:
            row = int(table.find(ids_array([blob_id]))[0])
            while 0 <= row < len(table.segment) and table.segment.ids[row].tobytes() == blob_id:
                locations.append(table.location(row))
                row += 1
        return locations

    def rows_of(self, pack_id: bytes) -> list[PackRow]:
        """All blobs of one pack, by their place in it."""
        rows = {
            pack_row(segment, int(row))
            for segment, numbers in self._rows_by_pack.get(pack_id, ())
            for row in numbers
        }
        return sorted(rows, key=lambda row: row.offset_bytes)

    @cached_property
    def _rows_by_pack(self) -> dict[bytes, list[tuple[Segment, NDArray[np.intp]]]]:
        by_pack: dict[bytes, list[tuple[Segment, NDArray[np.intp]]]] = {}
        for segment in self.segments.values():
            order = np.argsort(segment.pack_numbers, kind="stable")
            numbers = np.arange(len(segment.packs) + 1)
            bounds = np.searchsorted(segment.pack_numbers[order], numbers)
            for number in range(len(segment.packs)):
                rows = order[bounds[number] : bounds[number + 1]]
                by_pack.setdefault(segment.packs.ids[number].tobytes(), []).append((segment, rows))
        return by_pack

    @cached_property
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
