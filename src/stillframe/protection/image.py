"""Protecting disk images at rest: files that nobody writes while they are read."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stillframe.disk.stamp import DiskChangedError
from stillframe.disk.still import Extent
from stillframe.errors import StillframeError, UsageError
from stillframe.progress import NoProgress, Progress
from stillframe.protection.image_source import Base, DiskReport, ImageSource, ImageSpec, open_image
from stillframe.repository.collection.consolidate import consolidate_index
from stillframe.repository.errors import ConflictError
from stillframe.repository.ingest import IngestRun, Statistics
from stillframe.repository.points import Consistency, PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import StorageError

__all__ = ["BackupReport", "ConsistencyError", "DiskReport", "ImageSpec", "backup_images"]

ATTEMPTS = 3
"""A run whose base was collected under its feet begins again; a third time is no accident."""

_MORE_THAN_CRASH = (Consistency.FILE_SYSTEM, Consistency.APPLICATION)


class ConsistencyError(StillframeError):
    """The consistency that was asked for could not be had; no point was made."""

    exit_code = 7


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
    if require in _MORE_THAN_CRASH:
        raise ConsistencyError(
            f"images at rest can be crash-consistent at best; {require.value} was required",
            hint="Shut the machine down cleanly before, or use a strategy that quiesces its applications.",
        )
    job = _Job(repository, images, machine, changed or {}, require, search, progress or NoProgress())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return job.attempt(attempt)
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class _Job:
    repository: Repository
    images: Sequence[ImageSpec]
    machine: str
    changed: Mapping[str, Sequence[Extent]]
    require: Consistency | None
    search: Sequence[Path]
    progress: Progress

    def attempt(self, number: int) -> BackupReport:
        started_s = time.perf_counter()
        moment = _now()
        with ExitStack() as stack:
            run = stack.enter_context(IngestRun(self.repository, self.machine, self.progress))
            base = Base.newest(self.repository.points(), self.machine, again=number > 1)
            sources = [
                open_image(stack, spec, base, self.changed.get(spec.name), self.search)
                for spec in self.images
            ]
            disks = self._store(run, sources)
            consistency, reason = _verdict(sources, self.require)
            run.finish()
            run.statistics.wall_s = time.perf_counter() - started_s
            reports = tuple(source.report for source in sources)
            point = RecoveryPoint(
                point_id=os.urandom(8).hex(),
                machine=self.machine,
                time=moment,
                consistency=consistency,
                consistency_reason=reason,
                kind="full" if any(report.kind == "full" for report in reports) else "incremental",
                reason="; ".join(dict.fromkeys(report.reason for report in reports)),
                parent=base.point.point_id if base.point else None,
                disks=disks,
                statistics=run.statistics.to_json(),
            )
            committed = run.commit(point, [base.point.point_id] if base.point else [])
        with suppress(StorageError):  # the point is safe, and the next run consolidates as well
            consolidate_index(self.repository)
        run.statistics.wall_s = time.perf_counter() - started_s
        return BackupReport(committed, reports, run.statistics, number)

    def _store(self, run: IngestRun, sources: Sequence[ImageSource]) -> tuple[PointDisk, ...]:
        block_bytes = self.repository.config.block_bytes
        self.progress.begin("reading", sum(source.planned_bytes(block_bytes) for source in sources))
        disks = []
        for source in sources:
            if source.changed is not None and source.base is not None:
                root = run.update(source.disk, source.changed, source.base)
            else:
                root = run.scan(source.disk, source.base)
            disks.append(source.point_disk(root, block_bytes))
        return tuple(disks)


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


def _verdict(sources: Sequence[ImageSource], require: Consistency | None) -> tuple[Consistency, str]:
    written = [path for source in sources for path in source.written_to()]
    if not written:
        return Consistency.CRASH, "the images were not written to while they were read"
    reason = f"{', '.join(map(str, written))}: written to while it was read"
    if require is not None and require is not Consistency.INCONSISTENT:
        raise DiskChangedError(reason, hint="Shut the machine down, or back up a snapshot of it.")
    return Consistency.INCONSISTENT, reason
