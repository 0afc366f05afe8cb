"""Protecting disk images at rest: files that nobody writes while they are read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stillframe.disk.open import open_disk
from stillframe.disk.stamp import DiskChangedError, StillStamp, still_stamp
from stillframe.disk.still import Extent, StillDisk
from stillframe.errors import StillframeError, UsageError
from stillframe.progress import NoProgress, Progress
from stillframe.repository.collection.consolidate import consolidate_index
from stillframe.repository.errors import ConflictError
from stillframe.repository.ingest import IngestRun, Statistics
from stillframe.repository.points import Consistency, PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import StorageError

ATTEMPTS = 3
"""A run whose base was collected under its feet begins again; a third time is no accident."""

_LEVELS = (
    Consistency.INCONSISTENT,
    Consistency.CRASH,
    Consistency.FILE_SYSTEM,
    Consistency.APPLICATION,
)


class ConsistencyError(StillframeError):
    """The consistency that was asked for could not be had; no point was made."""

    exit_code = 7


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """A disk image and the name that its disk has in the recovery point."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class DiskReport:
    """How one disk was read. ``reason`` says why in full, or how changes were found."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup did."""

    point: RecoveryPoint
    disks: tuple[DiskReport, ...]
    statistics: Statistics
    attempts: int

    def to_json(self) -> dict[str, Any]:
        return {
            "point": self.point.to_json(),
            "disks": [{"name": disk.name, "kind": disk.kind, "reason": disk.reason} for disk in self.disks],
            "statistics": self.statistics.to_json(),
            "attempts": self.attempts,
        }


@dataclass
class _Source:
    spec: ImageSpec
    disk: StillDisk
    stamp: StillStamp
    base: PointDisk | None
    changed: Sequence[Extent] | None
    distrust: str | None
    """Why the changed extents may not be all that differs from the base, if so."""

    report: DiskReport = field(init=False)


def backup_images(
    repository: Repository,
    images: Sequence[ImageSpec],
    *,
    machine: str,
    changed: Mapping[str, Sequence[Extent]] | None = None,
    require: Consistency | None = None,
    search: Sequence[Path] = (),
    progress: Progress | None = None,
) -> BackupReport:
    """Make a recovery point of a machine from its disk images.

    ``changed`` names, by disk, all extents that may differ from the machine's newest point; a disk that it
    does not name is read whole and compared. ``search``: folders besides a disk's own where parents may be.

    Raises:
        DiskChangedError: an image was written to meanwhile and ``require`` does not allow that.
        ConsistencyError: ``require`` asks for more than an image at rest can prove.
        UsageError: names clash, or ``changed`` does not fit the disks.
    """
    _check_names(images, changed or {})
    if require is not None and _LEVELS.index(require) > _LEVELS.index(Consistency.CRASH):
        raise ConsistencyError(
            f"images at rest can be crash-consistent at best; {require.value} was required",
            hint="Shut the machine down cleanly before, or use a strategy that quiesces its applications.",
        )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(repository, images, machine, changed, require, search, progress, attempt)
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _attempt(
    repository: Repository,
    images: Sequence[ImageSpec],
    machine: str,
    changed: Mapping[str, Sequence[Extent]] | None,
    require: Consistency | None,
    search: Sequence[Path],
    progress: Progress | None,
    attempt: int,
) -> BackupReport:
    started_s = time.perf_counter()
    moment = _now()
    with ExitStack() as stack:
        run = stack.enter_context(IngestRun(repository, machine, progress))
        parent = _newest(repository, machine)
        distrust = _why_distrust(parent, attempt)
        sources = [_open(stack, spec, parent, changed, search, distrust) for spec in images]
        (progress or NoProgress()).begin("reading", sum(_to_read(source) for source in sources))
        disks = tuple(_store(run, source, repository.config.block_bytes) for source in sources)
        consistency, reason = _verdict(sources, require)
        run.finish()
        run.statistics.wall_s = time.perf_counter() - started_s
        point = RecoveryPoint(
            point_id=os.urandom(8).hex(),
            machine=machine,
            time=moment,
            consistency=consistency,
            consistency_reason=reason,
            kind="incremental" if all(source.report.kind == "incremental" for source in sources) else "full",
            reason="; ".join(dict.fromkeys(source.report.reason for source in sources)),
            parent=parent.point_id if parent else None,
            disks=disks,
            statistics=run.statistics.to_json(),
        )
        committed = run.commit(point, [parent.point_id] if parent else [])
    with suppress(StorageError):  # the point is safe, and the next run consolidates as well
        consolidate_index(repository)
    run.statistics.wall_s = time.perf_counter() - started_s
    return BackupReport(committed, tuple(source.report for source in sources), run.statistics, attempt)


def _now() -> datetime:
    """To the millisecond, as the log has it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _check_names(images: Sequence[ImageSpec], changed: Mapping[str, Sequence[Extent]]) -> None:
    names = [image.name for image in images]
    if not names:
        raise UsageError("there is no image to back up")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"two disks would be called {name!r}", hint=f"Give one another name: OTHER={name}"
            )
    for name in changed:
        if name not in names:
            raise UsageError(f"changed extents are given for {name!r}, which is none of the images")


def _newest(repository: Repository, machine: str) -> RecoveryPoint | None:
    points = [point for point in repository.points() if point.machine == machine]
    return points[-1] if points else None


def _why_distrust(parent: RecoveryPoint | None, attempt: int) -> str | None:
    """Why extents that changed since the newest point cannot be laid over this one, if so."""
    if attempt > 1:
        return "the newest point was forgotten during the run"
    if parent is not None and parent.consistency is Consistency.INCONSISTENT:
        return "the newest point is inconsistent"
    return None


def _open(
    stack: ExitStack,
    spec: ImageSpec,
    parent: RecoveryPoint | None,
    changed: Mapping[str, Sequence[Extent]] | None,
    search: Sequence[Path],
    distrust: str | None,
) -> _Source:
    stamp = still_stamp(spec.path)
    disk = stack.enter_context(closing(open_disk(spec.path, search=search)))
    base = parent.disk(spec.name) if parent else None
    return _Source(spec, disk, stamp, base, (changed or {}).get(spec.name), distrust)


def _to_read(source: _Source) -> int:
    if source.changed is not None and _why_not_by_extents(source) is None:
        return sum(extent.length_bytes for extent in source.changed)
    return sum(extent.length_bytes for extent in _data(source.disk))


def _data(disk: StillDisk) -> Iterator[Extent]:
    return (extent for extent in disk.extents() if extent.kind == "data")


def _store(run: IngestRun, source: _Source, block_bytes: int) -> PointDisk:
    disk, base = source.disk, source.base
    obstacle = _why_not_by_extents(source)
    if obstacle is None:
        assert base is not None
        assert source.changed is not None
        source.report = DiskReport(source.spec.name, "incremental", "changed extents were given")
        root = run.update(disk, source.changed, base)
    else:
        kind = "full" if base is None else "incremental"
        source.report = DiskReport(source.spec.name, kind, obstacle)
        root = run.scan(disk, base)
    return PointDisk(
        source.spec.name, disk.disk_id, disk.geometry, block_bytes, root, str(source.spec.path.absolute())
    )


def _why_not_by_extents(source: _Source) -> str | None:
    """Why the whole disk has to be read; None if the given extents are enough."""
    base, size_bytes = source.base, source.disk.geometry.size_bytes
    if base is None:
        return "no earlier point of this disk"
    if source.changed is None:
        return "no changed extents given; every block compared"
    if base.disk_id != source.disk.disk_id:
        return "another disk of the same name; every block compared"
    if source.distrust is not None:
        return f"{source.distrust}; every block compared"
    if base.geometry.size_bytes != size_bytes:
        return f"size changed from {base.geometry.size_bytes} to {size_bytes} bytes; every block compared"
    return None


def _verdict(sources: Sequence[_Source], require: Consistency | None) -> tuple[Consistency, str]:
    written = [source.spec.path for source in sources if still_stamp(source.spec.path) != source.stamp]
    if not written:
        return Consistency.CRASH, "the images were not written to while they were read"
    reason = f"{', '.join(map(str, written))}: written to while it was read"
    if require is not None and require is not Consistency.INCONSISTENT:
        raise DiskChangedError(reason, hint="Shut the machine down, or back up a snapshot of it.")
    return Consistency.INCONSISTENT, reason
