"""Rebuilding the index from the packs alone."""

from __future__ import annotations

from stillframe.progress import Progress
from stillframe.repository.checking.parallel import in_parallel
from stillframe.repository.checking.repair_report import RepairReport
from stillframe.repository.collection.own_objects import require_undeleted
from stillframe.repository.entries import EntrySealer
from stillframe.repository.errors import ConflictError, DamagedError
from stillframe.repository.index import Index
from stillframe.repository.log import Entry, LogView
from stillframe.repository.operations import Steps, drive, put_new
from stillframe.repository.packs import (
    PREFIX_BYTES,
    TRAILER,
    PackKind,
    StoredPack,
    pack_name,
    parse_directory,
    parse_trailer,
)
from stillframe.repository.repository import Repository
from stillframe.repository.segments import Segment, decode_segment, encode_segment, segment_of_packs
from stillframe.repository.storage.base import StorageError


def rebuild_index(repository: Repository, progress: Progress, *, dry_run: bool) -> RepairReport:
    """Replace lost or damaged segments by what the packs say of themselves.

    All packs in storage that no good segment lists and no log entry deleted go into a new segment. Those of a
    run that never committed are among them; the next collection finds them dead.
    """
    report = RepairReport(dry_run)
    repository.read_log()
    since = repository.state.number
    segments = {name: _readable(repository, name) for name in repository.state.segments}
    bad = report.healed_objects = [name for name, segment in segments.items() if segment is None]
    good = Index({name: segment for name, segment in segments.items() if segment is not None})
    known = {pack_name(kind, pack_id) for pack_id, (kind, _) in good.packs.items()}
    packs, report.still_lost = _read_packs(repository, known, progress)
    report.indexed_packs = len(packs)
    if (bad or packs) and not dry_run:
        with repository.knowledge.lock:
            drive(_replace(repository, since, bad, packs), repository.storage)
    return report


def _readable(repository: Repository, name: str) -> Segment | None:
    try:
        return decode_segment(name, repository.storage.get(name), repository.knowledge.bundle)
    except (StorageError, DamagedError):
        return None


def _read_packs(repository: Repository, known: set[str], progress: Progress) -> tuple[list[StoredPack], int]:
    """The packs that are unknown and live as far as the log knows, and how many cannot be read."""
    deleted = _ever_deleted(repository) | known
    names = [
        name
        for folder in ("data/", "meta/")
        for name in sorted(repository.storage.list(folder))
        if name not in deleted
    ]
    progress.begin("reading directories of packs", None)
    packs = list(in_parallel(lambda name: read_directory(repository, name), names))
    return [pack for pack in packs if pack is not None], packs.count(None)


def _ever_deleted(repository: Repository) -> frozenset[str]:
    """From the whole log: checkpoints do not keep what was deleted."""
    knowledge = repository.knowledge
    view = LogView(EntrySealer(knowledge.bundle, knowledge.config.repository_id))
    drive(view.catch_up(), repository.storage)
    return view.deleted_since(0)


def read_directory(repository: Repository, name: str) -> StoredPack | None:
    """A pack as it describes itself; None if its ends are damaged."""
    storage, bundle = repository.storage, repository.knowledge.bundle
    try:
        size_bytes = storage.size(name)
        ending = min(size_bytes, TRAILER.size)
        directory_bytes = parse_trailer(name, storage.get_range(name, size_bytes - ending, ending))
        start = size_bytes - TRAILER.size - directory_bytes
        if start < 0:
            return None
        directory = storage.get_range(name, start, directory_bytes)
        prefix = storage.get_range(name, 0, min(PREFIX_BYTES, size_bytes))
        rows = parse_directory(name, prefix, directory, bundle)
    except (DamagedError, StorageError):
        return None
    kind = PackKind.DATA if name.startswith("data/") else PackKind.METADATA
    return StoredPack(bytes.fromhex(name.rpartition("/")[2]), kind, size_bytes, rows)


def _replace(repository: Repository, since: int, bad: list[str], packs: list[StoredPack]) -> Steps[None]:
    knowledge = repository.knowledge
    name, data = encode_segment(segment_of_packs(packs), knowledge.bundle, knowledge.entropy)
    yield from put_new(name, data)

    def build() -> Steps[Entry]:
        yield from ()
        if not set(bad) <= knowledge.state.segments.keys():
            raise ConflictError("a collection changed the repository meanwhile", hint="Run the repair again.")
        require_undeleted(knowledge, since, [name, *(pack.object_name for pack in packs)])
        return {
            "kind": "rewrite",
            "add": [name],
            "drop": bad,
            "delete": [],
            "suspects": [],
            "sweep": False,
        }

    yield from knowledge.log.append(build)
