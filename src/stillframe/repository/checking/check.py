"""The check: log, index, packs, trees; on request every byte of guest data."""

from __future__ import annotations

from dataclasses import dataclass

from stillframe.progress import NoProgress, Progress
from stillframe.repository.checking.packs import PackVerdict, verify_pack
from stillframe.repository.checking.parallel import in_parallel
from stillframe.repository.checking.report import CheckReport
from stillframe.repository.checking.trees import find_affected
from stillframe.repository.entries import LOG_FOLDER, EntrySealer
from stillframe.repository.errors import DamagedError
from stillframe.repository.index import Index
from stillframe.repository.log import LogView
from stillframe.repository.operations import drive
from stillframe.repository.packs import PackKind, pack_name
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.segments import Segment, decode_segment
from stillframe.repository.storage.base import ObjectMissingError, StorageError
from stillframe.repository.unlocking import damaged_slots

_DAMAGED_SLOT = (
    "is no key slot any more: a passphrase or recovery key opens nothing now. Copy it back from a mirror, "
    "or make another with `stillframe repo key add` and delete it"
)
_MEND_INDEX = "mend it: stillframe repo repair --index"


def check(
    repository: Repository, *, read_data: bool = False, progress: Progress | None = None
) -> CheckReport:
    """Verify the repository; what is damaged is in the report, with the points, disks and ranges it touches.

    Without ``read_data``: the log from its first entry, the form of the key slots, all segments, the presence
    and size of all packs, all metadata packs byte by byte, and all trees. With it, every data pack is read,
    decrypted, decoded and hashed as well.

    Raises:
        ReaderKeyNeededError: ``read_data``, and the credential can only write.
    """
    progress = progress or NoProgress()
    report = CheckReport()
    repository.read_log()
    _check_log(repository, report)
    for name in damaged_slots(repository.storage):
        report.add(name, _DAMAGED_SLOT)
    view = _check_segments(repository, report)
    bad = _check_packs(repository, view.index, report, progress, read_data=read_data)
    repository.read_log()
    collected = repository.knowledge.log.deleted_since(view.number)
    if collected:  # meanwhile: what was in those packs lies elsewhere now, or no point needs it any more
        view = _check_segments(repository, CheckReport())
    for verdict in bad:
        if verdict.name not in collected:
            report.add(verdict.name, verdict.problem or "")
            report.damaged_packs[verdict.pack_id] = verdict.bad
    report.lost = _lost(view.index, report.damaged_packs)
    progress.begin("walking trees", None)
    find_affected(repository, view.index, view.points, report)
    return report


def _check_log(repository: Repository, report: CheckReport) -> None:
    """Read all entries anew: what checkpoints say must follow from them."""
    knowledge = repository.knowledge
    view = LogView(EntrySealer(knowledge.bundle, knowledge.config.repository_id))
    report.points = len(repository.state.points)
    try:
        drive(view.catch_up(), repository.storage)
        repository.read_log()
        if view.state.number < repository.state.number:  # a writer was faster
            drive(view.catch_up(), repository.storage)
    except DamagedError as error:
        report.add(LOG_FOLDER, str(error))
        return
    report.entries = view.state.number
    if view.state.number < repository.state.number:
        report.add(LOG_FOLDER, f"log entry {view.state.number + 1} is missing, though later ones are there")
    elif view.state.number == repository.state.number and view.state != repository.state:
        report.add("checkpoint", "a checkpoint says something else than the log")


@dataclass(frozen=True, slots=True)
class _View:
    """The repository after log entry ``number``, as far as its segments can be read."""

    number: int
    points: list[RecoveryPoint]
    index: Index


def _check_segments(repository: Repository, report: CheckReport) -> _View:
    while True:
        number, points, names = repository.state.number, repository.points(), list(repository.state.segments)
        segments: dict[str, Segment] = {}
        problems: dict[str, str] = {}
        for name in names:
            segment = _read_segment(repository, name)
            if isinstance(segment, str):
                problems[name] = segment
            else:
                segments[name] = segment
        repository.read_log()
        if problems.keys() <= repository.state.segments.keys():
            for name, problem in problems.items():
                report.add(name, f"{problem}; {_MEND_INDEX}")
            return _View(number, points, Index(segments))


def _read_segment(repository: Repository, name: str) -> Segment | str:
    """A segment, or what is wrong with it."""
    try:
        return decode_segment(name, repository.storage.get(name), repository.knowledge.bundle)
    except ObjectMissingError:
        return "this index segment is lost"
    except (DamagedError, StorageError) as error:
        return str(error)


def _check_packs(
    repository: Repository, index: Index, report: CheckReport, progress: Progress, *, read_data: bool
) -> list[PackVerdict]:
    """Verdicts on the packs with which something is wrong."""
    packs = index.packs
    whole = {pack_id for pack_id, (kind, _) in packs.items() if read_data or kind is PackKind.METADATA}
    report.packs, report.blobs = len(packs), len(index)
    progress.begin("reading packs", sum(packs[pack_id][1] for pack_id in whole))

    def verify(pack_id: bytes) -> PackVerdict:
        kind, size_bytes = packs[pack_id]
        name = pack_name(kind, pack_id)
        return verify_pack(repository, index, name, pack_id, size_bytes, read=pack_id in whole)

    bad = []
    for verdict in in_parallel(verify, packs):
        report.read_bytes += verdict.read_bytes
        progress.advance(verdict.read_bytes)
        if verdict.problem is not None:
            bad.append(verdict)
    return bad


def _lost(index: Index, damaged: dict[bytes, frozenset[bytes]]) -> set[bytes]:
    """Blobs of which every copy is bad."""
    suspected = frozenset[bytes]().union(*damaged.values())
    return {
        blob_id
        for blob_id in suspected
        if all(blob_id in damaged.get(copy.pack_id, ()) for copy in index.copies(blob_id))
    }
