"""Mending lost blocks from images that still have them.

A damaged pack is emptied: what is good in it, and what a source still has, goes into new packs. It is deleted
only if nothing is left in it that any point may need.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from stillframe.disk.still import StillDisk
from stillframe.progress import Progress
from stillframe.repository.blobs import BlobType, BytesLike, Compressor
from stillframe.repository.checking.repair_report import RepairReport
from stillframe.repository.checking.report import CheckReport
from stillframe.repository.collection.own_objects import require_undeleted
from stillframe.repository.config import compression_level
from stillframe.repository.errors import ConflictError, DamagedError
from stillframe.repository.idsearch import contained, ids_array, sorted_unique
from stillframe.repository.index import Location
from stillframe.repository.log import Entry
from stillframe.repository.nodes import NodeEntry, PiecedBlock
from stillframe.repository.operations import Delete, Steps, drive, put_new
from stillframe.repository.packs import PackBuilder, PackKind, PackRow, StoredPack, pack_name
from stillframe.repository.points import PointDisk
from stillframe.repository.repository import Repository
from stillframe.repository.segments import (
    Segment,
    encode_segment,
    merge,
    segment_of_packs,
    take_rows,
    without_packs,
)
from stillframe.repository.tree import walk_blocks


@dataclass(frozen=True, slots=True)
class Source:
    """An image to re-read lost blocks from, and the disk name that it had in recovery points."""

    name: str
    disk: StillDisk


def repair_from_images(
    repository: Repository,
    damage: CheckReport,
    sources: Sequence[Source],
    progress: Progress,
    *,
    dry_run: bool,
) -> RepairReport:
    """Store lost blocks anew where a source image still has them at their old place, and empty damaged packs.

    ``damage`` is the report of a check with ``read_data``. A block counts only if it hashes to the lost id,
    so a source that moved on since does no harm: it just helps less.
    """
    report = RepairReport(dry_run)
    found = _reread(repository, damage.lost, sources, progress)
    report.healed_blobs, report.still_lost = len(found), len(damage.lost) - len(found)
    if not dry_run and damage.damaged_packs:
        _replace_packs(repository, damage, found, report)
    return report


def _reread(
    repository: Repository, lost: set[bytes], sources: Sequence[Source], progress: Progress
) -> dict[bytes, bytes]:
    """Lost blobs that a source has, at a place where some point's disk of that name had them."""
    found: dict[bytes, bytes] = {}
    progress.begin("looking for lost blocks", None)
    index, id_of = repository.index, repository.knowledge.ids.id_of
    lengths = {blob_id: row.row.length_bytes for blob_id in lost if (row := index.find_one(blob_id))}
    for source in sources:
        for blob_id, offset_bytes in _places(repository, lengths.keys(), source.name):
            length_bytes = lengths[blob_id]
            if blob_id not in found and 0 <= offset_bytes <= source.disk.geometry.size_bytes - length_bytes:
                data = bytearray(length_bytes)
                source.disk.read_into(offset_bytes, memoryview(data))
                progress.advance(length_bytes)
                if id_of(BlobType.DATA, data) == blob_id:
                    found[blob_id] = bytes(data)
    return found


def _places(repository: Repository, lost: Collection[bytes], name: str) -> Iterator[tuple[bytes, int]]:
    """Id of every lost blob of a disk and where its first byte was, as far as trees can be read."""
    for point in reversed(repository.points()):
        disk = point.disk(name)
        if disk is not None:
            with suppress(DamagedError):
                yield from _places_on(repository, lost, disk)


def _places_on(
    repository: Repository, lost: Collection[bytes], disk: PointDisk
) -> Iterator[tuple[bytes, int]]:
    fan_out = repository.config.fan_out
    for block, entry in walk_blocks(disk.root, disk.block_count, fan_out, repository.read_node):
        for blob_id, offset_bytes in _blobs_of(entry):
            if blob_id in lost:
                yield blob_id, block * disk.block_bytes + offset_bytes


def _blobs_of(entry: NodeEntry) -> Iterator[tuple[bytes, int]]:
    """The blobs of a block, and where their first bytes lie in it."""
    if isinstance(entry, PiecedBlock):
        if entry.base is not None:
            yield entry.base, 0
        for piece in entry.pieces:
            if not piece.is_zero:
                yield piece.blob_id, piece.offset_bytes - piece.blob_offset_bytes
    elif entry is not None:
        yield entry, 0


def _replace_packs(
    repository: Repository, damage: CheckReport, found: dict[bytes, bytes], report: RepairReport
) -> None:
    """One rewrite entry: new packs in, healed rows out of the damaged ones, emptied packs deleted."""
    repository.refresh()
    since = repository.state.number
    index = repository.index
    kinds = {pack_id: kind for pack_id, (kind, _) in index.packs.items()}
    damaged = [pack_id for pack_id in damage.damaged_packs if pack_id in kinds]
    healer = _Healer(repository)
    for pack_id in damaged:
        bad = damage.damaged_packs[pack_id]
        for row, data in _salvage(repository, kinds[pack_id], pack_id, bad, damage.lost, found):
            healer.add(row, data)
    packs = healer.finish()
    if not packs:
        return
    healed = {row.blob_id for pack in packs for row in pack.rows}
    emptied = {pack_id for pack_id in damaged if all(row.blob_id in healed for row in index.rows_of(pack_id))}
    names = [pack_name(kinds[pack_id], pack_id) for pack_id in emptied]
    with repository.knowledge.lock:
        drive(_rewrite(repository, since, set(damaged), packs, healed, emptied, names), repository.storage)
    repository.refresh()
    report.healed_objects += [pack.object_name for pack in packs]
    report.deleted_packs += names


def _salvage(
    repository: Repository,
    kind: PackKind,
    pack_id: bytes,
    bad: frozenset[bytes],
    lost: set[bytes],
    found: dict[bytes, bytes],
) -> Iterator[tuple[PackRow, BytesLike]]:
    """What is good in a damaged pack, and what a source or another pack still has of the rest."""
    for row in repository.index.rows_of(pack_id):
        if row.blob_id in found:
            yield row, found[row.blob_id]
        elif row.blob_id not in bad:
            yield row, repository.read_at(Location(pack_id, kind, row))
        elif row.blob_id not in lost:
            yield row, repository.read_blob(row.blob_id, row.kind)


class _Healer:
    """Packs healed blobs, one open pack a kind."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._compressor = Compressor(compression_level(repository.config.compression))
        self._open: dict[PackKind, PackBuilder] = {}
        self._done: list[StoredPack] = []

    def add(self, row: PackRow, data: BytesLike) -> None:
        kind = PackKind.holding(row.kind)
        knowledge = self._repository.knowledge
        builder = self._open.get(kind)
        if builder is None:
            builder = PackBuilder(kind, knowledge.bundle, knowledge.config.pack_bytes, knowledge.entropy)
            self._open[kind] = builder
        codec, coded = self._compressor.encode(data)
        builder.add(row.blob_id, row.kind, codec, coded, len(data))
        if builder.is_full:
            self._put(self._open.pop(kind))

    def finish(self) -> list[StoredPack]:
        while self._open:
            self._put(self._open.popitem()[1])
        return self._done

    def _put(self, builder: PackBuilder) -> None:
        pack = builder.seal()
        self._repository.storage.put_if_absent(pack.object_name, pack.data)
        self._done.append(pack.stored)


def _rewrite(
    repository: Repository,
    since: int,
    damaged: set[bytes],
    packs: list[StoredPack],
    healed: set[bytes],
    emptied: set[bytes],
    names: list[str],
) -> Steps[None]:
    knowledge = repository.knowledge
    dropped = {
        name: segment for name, segment in knowledge.index.segments.items() if _lists(segment, damaged)
    }
    kept = [_without_healed(segment, damaged, healed) for segment in dropped.values()]
    segment = merge([without_packs(merge(kept), emptied), segment_of_packs(packs)])
    name, data = encode_segment(segment, knowledge.bundle, knowledge.entropy)
    yield from put_new(name, data)
    delete = [*dropped, *names]

    def build() -> Steps[Entry]:
        yield from ()
        if not dropped.keys() <= knowledge.state.segments.keys():
            raise ConflictError("a collection changed the repository meanwhile", hint="Run the repair again.")
        require_undeleted(knowledge, since, [name, *(pack.object_name for pack in packs)])
        return {
            "kind": "rewrite",
            "add": [name],
            "drop": list(dropped),
            "delete": delete,
            "suspects": [],
            "sweep": False,
        }

    yield from knowledge.log.append(build)
    for gone in delete:
        yield Delete(gone)


def _lists(segment: Segment, packs: set[bytes]) -> bool:
    return any(segment.packs.ids[number].tobytes() in packs for number in range(len(segment.packs)))


def _without_healed(segment: Segment, damaged: set[bytes], healed: set[bytes]) -> Segment:
    """The segment without those rows of damaged packs that a new pack has."""
    bad_packs = [n for n in range(len(segment.packs)) if segment.packs.ids[n].tobytes() in damaged]
    going = np.isin(segment.pack_numbers, bad_packs)
    going &= contained(segment.ids, sorted_unique(ids_array(list(healed))))
    return take_rows(segment, ~going)
