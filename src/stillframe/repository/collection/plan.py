"""What a collection does with each pack: pure decisions over the index and the marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillframe.repository.idsearch import Ids, contained, first_of_each, sorted_unique
from stillframe.repository.packs import PackKind, pack_name
from stillframe.repository.segments import Segment, merge

DEAD_FRACTION = 0.3
"""A pack of whose blobs more than this is dead, by bytes, is rewritten."""

SMALL_FRACTION = 0.25
"""Packs below this part of the pack size are small."""

MIN_SMALL_PACKS = 4
"""Fewer small packs of a kind than this are left alone."""

MIN_SMALL_SEGMENTS = 8
SMALL_SEGMENT_ROWS = 1 << 17
MAX_COPY_BYTES = 1 << 30
"""So much is copied before the entry that makes it count; more goes into a further pass."""


PackNumbers = np.ndarray[tuple[int], np.dtype[np.int64]]
PackFlags = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class PlannedPack:
    """A pack that goes. Its blobs in ``copy`` (ids, sorted) are kept in new packs first."""

    pack_id: bytes
    kind: PackKind
    size_bytes: int
    live_bytes: int
    copy: Ids

    @property
    def object_name(self) -> str:
        return pack_name(self.kind, self.pack_id)


@dataclass(frozen=True, slots=True)
class Plan:
    """One pass: packs that go, segments that are replaced, and the ids that will be nowhere afterwards."""

    packs: tuple[PlannedPack, ...]
    drop_segments: tuple[str, ...]
    lost: Ids
    live_bytes: int
    more: bool
    """Work is left for another pass."""

    left_wasteful: bool = False
    """Data packs would be worth rewriting, but cannot be read."""

    @property
    def is_empty(self) -> bool:
        return not self.packs and not self.drop_segments

    @property
    def freed_bytes(self) -> int:
        return sum(pack.size_bytes - pack.live_bytes for pack in self.packs)


def make_plan(segments: dict[str, Segment], live: Ids, *, pack_bytes: int, can_read_data: bool) -> Plan:
    """Decide for the packs of ``segments``; those of unfinished uploads are not handed in."""
    merged = merge(list(segments.values()))
    kept = _kept_rows(merged, live)
    live_bytes = _bytes_by_pack(merged, kept)
    worth = _worth_rewriting(merged, live_bytes, pack_bytes)
    readable = worth & ((merged.packs.kinds != PackKind.DATA) | can_read_data)
    going, more = _going(live_bytes, readable)
    packs = tuple(_planned(merged, number, int(live_bytes[number]), kept) for number in going)
    lost = _lost(merged, going, live)
    drop = _segments_to_replace(segments, {pack.pack_id for pack in packs})
    return Plan(packs, drop, lost, int(live_bytes.sum()), more, bool((worth & ~readable).any()))


def _kept_rows(merged: Segment, live: Ids) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """One row for each live blob; of several copies the one in the largest pack."""
    sizes = merged.packs.sizes_bytes[merged.pack_numbers] if len(merged) else np.empty(0, np.uint64)
    runs = np.cumsum(first_of_each(merged.ids)) if len(merged) else np.empty(0, np.int64)
    order = np.lexsort((-sizes.astype(np.int64), runs))
    first = np.zeros(len(merged), bool)
    if len(merged):
        ordered = runs[order]
        first[order[np.concatenate([[True], ordered[1:] != ordered[:-1]])]] = True
    return first & contained(merged.ids, live)


def _bytes_by_pack(merged: Segment, rows: PackFlags) -> PackNumbers:
    """Stored bytes of some rows, summed for each pack."""
    stored = merged.stored_bytes[rows].astype(np.float64)
    return np.bincount(merged.pack_numbers[rows], stored, len(merged.packs)).astype(np.int64)


def _going(live_bytes: PackNumbers, rewritable: PackFlags) -> tuple[list[int], bool]:
    """Packs that go, the dead ones first; True if the budget left some for another pass."""
    going = [int(number) for number in np.flatnonzero(live_bytes == 0)]
    budget = MAX_COPY_BYTES
    for number in np.flatnonzero(rewritable):
        if budget <= 0:
            return going, True
        budget -= int(live_bytes[number])
        going.append(int(number))
    return going, False


def _worth_rewriting(merged: Segment, live_bytes: PackNumbers, pack_bytes: int) -> PackFlags:
    """Packs with live blobs that are wasteful; and small ones, of the kinds that have many of them."""
    sizes = merged.packs.sizes_bytes.astype(np.int64)
    alive = live_bytes != 0
    small = alive & (sizes < pack_bytes * SMALL_FRACTION)
    for kind in PackKind:
        of_kind = small & (merged.packs.kinds == kind)
        if np.count_nonzero(of_kind) < MIN_SMALL_PACKS:
            small &= ~of_kind
    # Not of the size of the pack: a tiny one is mostly header and directory, and copying saves nothing.
    held_bytes = _bytes_by_pack(merged, np.ones(len(merged), bool))
    wasteful: PackFlags = live_bytes < held_bytes * (1 - DEAD_FRACTION)
    worth: PackFlags = alive & (small | wasteful)
    return worth


def _planned(
    merged: Segment, number: int, live_bytes: int, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> PlannedPack:
    return PlannedPack(
        merged.packs.ids[number].tobytes(),
        PackKind(int(merged.packs.kinds[number])),
        int(merged.packs.sizes_bytes[number]),
        live_bytes,
        merged.ids[kept & (merged.pack_numbers == number)],
    )


def _lost(merged: Segment, going: list[int], live: Ids) -> Ids:
    """Ids whose every copy goes, and that nothing live needs."""
    leaving = np.isin(merged.pack_numbers, going)
    gone = sorted_unique(merged.ids[leaving])
    staying = sorted_unique(merged.ids[~leaving])
    return gone[~contained(gone, staying) & ~contained(gone, live)]


def _segments_to_replace(segments: dict[str, Segment], going: set[bytes]) -> tuple[str, ...]:
    """Segments that list a pack that goes; and all small ones, if there are many."""
    affected = [
        name
        for name, segment in segments.items()
        if any(segment.packs.ids[number].tobytes() in going for number in range(len(segment.packs)))
    ]
    small = [name for name, segment in segments.items() if len(segment) < SMALL_SEGMENT_ROWS]
    if affected or len(small) >= MIN_SMALL_SEGMENTS:
        return tuple(dict.fromkeys(affected + small))
    return ()
