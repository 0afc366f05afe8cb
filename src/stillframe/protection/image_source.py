"""One disk image as it goes into a recovery point: opened, stamped, and told how to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from stillframe.disk.describe import facts_of
from stillframe.disk.open import open_disk
from stillframe.disk.stamp import StillStamp, still_stamp
from stillframe.disk.still import Extent, StillDisk
from stillframe.repository.ingest.plan import planned_bytes
from stillframe.repository.points import Consistency, PointDisk, RecoveryPoint


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
class Base:
    """The machine's newest point, and why extents that changed since cannot be laid over it, if so."""

    point: RecoveryPoint | None
    distrust: str | None

    @classmethod
    def newest(cls, points: Sequence[RecoveryPoint], machine: str, *, again: bool) -> Base:
        """``again``: an earlier attempt of this run failed, so the extents may count from another point."""
        own = [point for point in points if point.machine == machine]
        point = own[-1] if own else None
        distrust = None
        if again:
            distrust = "the newest point was forgotten during the run"
        elif point is not None and point.consistency is Consistency.INCONSISTENT:
            distrust = "the newest point is inconsistent"
        return cls(point, distrust)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An open image. ``changed`` is None where the whole disk has to be read; ``report`` says why."""

    spec: ImageSpec
    disk: StillDisk
    stamps: Mapping[Path, StillStamp]
    base: PointDisk | None
    changed: Sequence[Extent] | None
    report: DiskReport

    def planned_bytes(self, block_bytes: int) -> int:
        """What a run over it reads, as far as can be told before."""
        if self.changed is not None:
            return sum(extent.length_bytes for extent in self.changed)
        return planned_bytes(self.disk, block_bytes)

    def written_to(self) -> list[Path]:
        """The image's files, parents included, that are not as they were when it was opened."""
        return [path for path, stamp in self.stamps.items() if still_stamp(path) != stamp]

    def point_disk(self, root: bytes | None, block_bytes: int) -> PointDisk:
        source = str(self.spec.path.absolute())
        return PointDisk(self.spec.name, self.disk.disk_id, self.disk.geometry, block_bytes, root, source)


def open_image(
    stack: ExitStack,
    spec: ImageSpec,
    base: Base,
    changed: Sequence[Extent] | None,
    search: Sequence[Path],
) -> ImageSource:
    """Open an image; it is closed with ``stack``."""
    stamps = {spec.path: still_stamp(spec.path)}
    disk = stack.enter_context(closing(open_disk(spec.path, search=search)))
    stamps |= {Path(parent): still_stamp(Path(parent)) for parent in facts_of(disk).parents}
    base_disk = base.point.disk(spec.name) if base.point else None
    obstacle = _why_not_by_extents(disk, base_disk, changed, base.distrust)
    if obstacle is None:
        report = DiskReport(spec.name, "incremental", "changed extents were given")
        return ImageSource(spec, disk, stamps, base_disk, changed, report)
    report = DiskReport(spec.name, "full" if base_disk is None else "incremental", obstacle)
    return ImageSource(spec, disk, stamps, base_disk, None, report)


def _why_not_by_extents(
    disk: StillDisk, base: PointDisk | None, changed: Sequence[Extent] | None, distrust: str | None
) -> str | None:
    """Why the whole disk has to be read; None if the given extents are enough."""
    size_bytes = disk.geometry.size_bytes
    if base is None:
        return "no earlier point of this disk"
    if changed is None:
        return "no changed extents given; every block compared"
    if base.disk_id != disk.disk_id:
        return "another disk of the same name; every block compared"
    if distrust is not None:
        return f"{distrust}; every block compared"
    if base.geometry.size_bytes != size_bytes:
        return f"size changed from {base.geometry.size_bytes} to {size_bytes} bytes; every block compared"
    return None
