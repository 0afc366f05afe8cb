"""The collection itself, as a generator of storage operations (format, section 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stillframe.progress import NoProgress, Progress
from stillframe.repository.collection.copying import copy_blobs
from stillframe.repository.collection.marking import Marker
from stillframe.repository.collection.own_objects import require_undeleted
from stillframe.repository.collection.plan import Plan, make_plan
from stillframe.repository.errors import ConflictError, DamagedError
from stillframe.repository.idsearch import contained
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.log import Entry
from stillframe.repository.operations import Delete, ListNames, Steps, drive, put_new
from stillframe.repository.packs import StoredPack, pack_name
from stillframe.repository.repository import Repository
from stillframe.repository.segments import Segment, encode_segment, merge, segment_of_packs, without_packs
from stillframe.repository.state import State

ATTEMPTS = 20
"""Plans that writers may overtake before a collection gives up."""


@dataclass
class CollectReport:
    """What a collection did, or would do."""

    dry_run: bool
    live_bytes: int = 0
    deleted_packs: int = 0
    rewritten_packs: int = 0
    written_packs: int = 0
    freed_bytes: int = 0
    merged_segments: int = 0
    deleted_orphans: int = 0
    suspects: int = 0
    left_wasteful: bool = field(default=False)
    """Data packs would be worth rewriting, but this credential cannot read them."""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class _OvertakenError(ConflictError):
    """Another process changed what the plan was made for; plan again."""


def collect(
    repository: Repository, *, dry_run: bool = False, progress: Progress | None = None
) -> CollectReport:
    """Give back the space of what no recovery point reaches, and consolidate what is small.

    Runs beside writers, readers and other collections. The space of rewritten packs is needed meanwhile.

    Raises:
        DamagedError: a tree cannot be walked, so nobody can say what is garbage; nothing was deleted.
    """
    progress = progress or NoProgress()
    progress.begin("collecting", None)
    repository.refresh()
    repository.config.require("collect")
    with repository.knowledge.lock:
        return drive(collect_steps(repository.knowledge, dry_run=dry_run), repository.storage)


def collect_steps(knowledge: Knowledge, *, dry_run: bool = False) -> Steps[CollectReport]:
    """See ``collect``."""
    report = CollectReport(dry_run)
    yield from knowledge.refresh()
    knowledge.state.require_known("collect")
    sweep = True
    marker = Marker(knowledge)
    for _ in range(ATTEMPTS):
        number = knowledge.state.number
        try:
            more = yield from _pass(knowledge, marker, report, sweep=sweep)
        except _OvertakenError:
            continue
        except ConflictError as conflict:
            yield from knowledge.refresh()
            if knowledge.state.number == number:
                raise DamagedError(str(conflict), hint="Run: stillframe repo check") from conflict
            marker = Marker(knowledge)
            continue
        if not more:
            return report
        sweep = False
    raise ConflictError(
        "other collections kept changing the repository; this one gave up, nothing is broken",
        hint="Run it again when they are done.",
    )


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a plan was made from: after log entry ``number``, with these live segments."""

    number: int
    segments: frozenset[str]


def _pass(knowledge: Knowledge, marker: Marker, report: CollectReport, *, sweep: bool) -> Steps[bool]:
    """One rewrite entry with all that leads to it and follows from it; True if another pass is worth it."""
    listed = (yield from _list_objects()) if sweep else frozenset()
    yield from knowledge.log.catch_up()
    yield from marker.extend()
    basis = _Basis(knowledge.state.number, frozenset(knowledge.state.segments))
    segments = _settled_segments(knowledge)
    can_read = knowledge.bundle.can_read
    plan = make_plan(segments, marker.live, pack_bytes=knowledge.config.pack_bytes, can_read_data=can_read)
    orphans = listed - _named_objects(knowledge)
    condemned = orphans & knowledge.state.suspects
    suspects = orphans - condemned
    report.live_bytes, report.left_wasteful = plan.live_bytes, plan.left_wasteful
    settled = plan.is_empty and not condemned and not (sweep and knowledge.state.uploads)
    if report.dry_run or (settled and (not sweep or suspects == knowledge.state.suspects)):
        _account(report, plan, (), condemned, suspects)
        return False
    packs = yield from copy_blobs(knowledge, plan.packs)
    added = yield from _put_segments(knowledge, [segments[name] for name in plan.drop_segments], plan, packs)
    stored = [*added, *(pack.object_name for pack in packs)]
    delete = [pack.object_name for pack in plan.packs] + list(plan.drop_segments) + sorted(condemned)

    def build() -> Steps[Entry]:
        yield from _verify(knowledge, marker, plan, basis, condemned, stored)
        return {
            "kind": "rewrite",
            "add": added,
            "drop": list(plan.drop_segments),
            "delete": delete,
            "suspects": sorted(suspects) if sweep else [],
            "sweep": sweep,
        }

    yield from knowledge.log.append(build)
    _account(report, plan, packs, condemned, suspects)
    for name in delete:
        yield Delete(name)
    yield from knowledge.load_segments()
    return plan.more


def _account(
    report: CollectReport,
    plan: Plan,
    packs: Iterable[StoredPack],
    condemned: frozenset[str],
    suspects: frozenset[str],
) -> None:
    report.deleted_packs += sum(not pack.live_bytes for pack in plan.packs)
    report.rewritten_packs += sum(bool(pack.live_bytes) for pack in plan.packs)
    report.written_packs += len(list(packs))
    report.freed_bytes += plan.freed_bytes
    report.merged_segments += len(plan.drop_segments)
    report.deleted_orphans += len(condemned)
    report.suspects = len(suspects) or report.suspects


def _list_objects() -> Steps[frozenset[str]]:
    """All packs and segments in storage. A short listing finds less to delete, and harms nothing."""
    names: set[str] = set()
    for folder in ("data/", "meta/", "index/"):
        listed: list[str] = yield ListNames(folder)
        names.update(listed)
    return frozenset(names)


def _named_objects(knowledge: Knowledge) -> frozenset[str]:
    packs = {pack_name(kind, pack_id) for pack_id, (kind, _) in knowledge.index.packs.items()}
    return frozenset(packs | knowledge.state.segments.keys())


def _settled_segments(knowledge: Knowledge) -> dict[str, Segment]:
    """All but those of unfinished uploads, which stay as they are, and so do the packs that they list."""
    uploads = knowledge.state.uploads
    segments = knowledge.index.segments
    busy = {pack for name in uploads if name in segments for pack in _pack_ids(segments[name])}
    return {
        name: segment if busy.isdisjoint(_pack_ids(segment)) else without_packs(segment, busy)
        for name, segment in segments.items()
        if name not in uploads
    }


def _pack_ids(segment: Segment) -> Iterator[bytes]:
    return (segment.packs.ids[number].tobytes() for number in range(len(segment.packs)))


def _put_segments(
    knowledge: Knowledge, dropped: list[Segment], plan: Plan, packs: list[StoredPack]
) -> Steps[list[str]]:
    """What takes the place of the dropped segments."""
    going = {pack.pack_id for pack in plan.packs}
    kept = without_packs(merge(dropped), going) if dropped else None
    parts = [segment for segment in (kept, segment_of_packs(packs)) if segment is not None]
    segment = merge(parts)
    if not len(segment.packs):
        return []
    name, data = encode_segment(segment, knowledge.bundle, knowledge.entropy)
    yield from put_new(name, data)
    return [name]


def _verify(
    knowledge: Knowledge,
    marker: Marker,
    plan: Plan,
    basis: _Basis,
    condemned: frozenset[str],
    stored: Sequence[str],
) -> Steps[None]:
    """Law 3 for a rewrite: after every entry read so far, nothing live loses its last copy."""
    state = knowledge.state
    state.require_known("collect")
    _require_basis(state, plan, basis)
    newly_live = yield from marker.extend()
    if contained(newly_live, plan.lost).any():
        raise _OvertakenError("a new recovery point needs what was to be deleted")
    if condemned & _named_objects(knowledge):
        raise _OvertakenError("a writer committed what looked abandoned")
    going = {pack.pack_id for pack in plan.packs}
    for name in state.segments.keys() - basis.segments:
        if not going.isdisjoint(_pack_ids(knowledge.index.segments[name])):
            raise _OvertakenError("a new index segment lists a pack that was to be deleted")
    require_undeleted(knowledge, basis.number, stored)


def _require_basis(state: State, plan: Plan, basis: _Basis) -> None:
    """All segments count, not just those that go: the copies that made others superfluous lie in them."""
    if not basis.segments <= state.segments.keys():
        raise _OvertakenError("another collection was faster")
    if not state.uploads.keys().isdisjoint(plan.drop_segments):
        raise _OvertakenError("a writer counts on a segment that was to be replaced")
