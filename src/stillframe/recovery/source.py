"""Where files come from: a specification ``SOURCE:PATH`` becomes open disks and a path within them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stillframe.disk.still import StillDisk
from stillframe.errors import UsageError
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class NamedDisk:
    name: str
    disk: StillDisk


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """The disks that a specification means, and what follows the colon.

    ``path`` begins within the disk where there is one disk, and with the disk's name where there are more.
    """

    label: str
    disks: tuple[NamedDisk, ...]
    path: str

    def choose(self) -> tuple[NamedDisk | None, str]:
        """The disk that the path leads into, and the path within it; None for the list of disks itself.

        Raises:
            UsageError: the path names none of the disks.
        """
        if len(self.disks) == 1 and self.disks[0].name == self.label:
            return self.disks[0], self.path
        first, _, rest = self.path.lstrip("/").partition("/")
        if not first:
            return None, ""
        for disk in self.disks:
            if disk.name == first:
                return disk, rest
        names = ", ".join(disk.name for disk in self.disks)
        raise UsageError(f"{self.label}: has no disk {first}", hint=f"Disks: {names}")


@contextmanager
def open_source(text: str) -> Iterator[OpenedSource]:
    """Open what ``FILE`` or ``FILE:PATH`` means; closed again at the end of the block.

    The colon that counts is the first one after the name of an existing file, so file names may hold colons.

    Raises:
        UsageError: there is no such file.
    """
    file, path = _split(text)
    from stillframe.disk.open import open_disk

    disk = open_disk(file)
    try:
        yield OpenedSource(str(file), (NamedDisk(str(file), disk),), path)
    finally:
        disk.close()


def source_of_point(repository: Repository, point: RecoveryPoint, path: str) -> OpenedSource:
    """The disks of a recovery point; ``path`` begins with a disk's name, or is empty for all of them."""
    from stillframe.repository.still import StoredDisk

    disks = tuple(NamedDisk(disk.name, StoredDisk(repository, disk)) for disk in point.disks)
    return OpenedSource(f"point {point.point_id}", disks, path)


def names_a_file(text: str) -> bool:
    """Whether a specification begins with the name of an existing file."""
    return _find_file(text) is not None


def _split(text: str) -> tuple[Path, str]:
    found = _find_file(text)
    if found is None:
        raise UsageError(
            f"{text}: names neither a disk file nor a recovery point",
            hint="Write FILE:/PATH or POINT:DISK/PATH, like disk.vhdx:/p1/etc or web@latest:c.vhdx/p1/etc.",
        )
    return found


def _find_file(text: str) -> tuple[Path, str] | None:
    ends = [position for position, character in enumerate(text) if character == ":"]
    for end in [*ends, len(text)]:
        candidate = Path(text[:end])
        if candidate.is_file() or candidate.is_block_device():
            return candidate, text[end + 1 :]
    return None
