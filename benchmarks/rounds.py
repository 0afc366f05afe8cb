"""The rounds: every contestant does the first measure, then every one the second, and so on; then all again.

Before each command its input is read once, so that all find it in the page cache, and the file system is
synced, so that none pays for another's writes. What was restored is hashed and compared; a wrong disk ends
the benchmark.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from benchmarks.changes import write_changed
from benchmarks.contestants import DISK_NAME, Contestant, Measure, Place
from benchmarks.generator import generate
from benchmarks.measured import CommandFailedError, measure
from benchmarks.results import Results, Sample

CHANGED_SHARE = 0.01
_READ_BYTES = 1 << 20


class WrongDiskError(Exception):
    """A contestant restored something else than what it was given."""


@dataclass(frozen=True, slots=True)
class Source:
    """The disk to protect, under one path, as it was or as it is after the changes."""

    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / DISK_NAME

    @property
    def extents(self) -> Path:
        return self.folder / "extents.json"

    @classmethod
    def create(cls, folder: Path, size_bytes: int, seed: int) -> Source:
        """Generate both states of the disk in a new folder."""
        folder.mkdir(parents=True)
        source = cls(folder)
        generate(folder / "base.raw", size_bytes, seed)
        write_changed(folder / "base.raw", folder / "changed.raw", source.extents, CHANGED_SHARE, seed)
        return source

    def show(self, *, changed: bool) -> None:
        """Put one state under the path of the image."""
        state = self.folder / ("changed.raw" if changed else "base.raw")
        new = self.folder / "new"
        new.hardlink_to(state)
        new.replace(self.image)
        new.unlink(missing_ok=True)  # rename does nothing where both are the same file already


@dataclass(slots=True)
class _Entrant:
    """A contestant in one round, and the hash of the disk that it last backed up."""

    contestant: Contestant
    place: Place
    protected: str = ""


def steps(wanted: Collection[Measure]) -> list[Measure]:
    """What a round must do to measure what is wanted: everything but the first backup stands on one."""
    return [each for each in Measure if each in wanted or each is Measure.FIRST]


def run_round(
    number: int,
    contestants: Sequence[Contestant],
    source: Source,
    folder: Path,
    wanted: Collection[Measure],
    results: Results,
    tell: Callable[[Sample], None],
) -> None:
    """One round in a new ``folder``, which is removed again; samples go to ``results`` and ``tell``.

    Raises:
        CommandFailedError: a contestant failed.
        WrongDiskError: a contestant restored a wrong disk.
    """
    entrants = [_enter(each, source, folder / each.name) for each in contestants]
    try:
        for step in steps(wanted):
            source.show(changed=step not in (Measure.FIRST, Measure.UNCHANGED))
            for entrant in entrants:
                sample = _take(entrant, step, number)
                if sample is not None and step in wanted:
                    results.samples.append(sample)
                    tell(sample)
    finally:
        shutil.rmtree(folder)


def _enter(contestant: Contestant, source: Source, folder: Path) -> _Entrant:
    folder.mkdir(parents=True)
    place = Place(folder, source.image, source.extents)
    environment = {**os.environ, **contestant.environment(place)}
    for command in contestant.prepare(place):
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if ended.returncode != 0:
            raise CommandFailedError(f"{' '.join(command)}\nended with {ended.returncode}:\n{ended.stderr}")
    return _Entrant(contestant, place)


def _take(entrant: _Entrant, step: Measure, number: int) -> Sample | None:
    if step.makes_backup:
        entrant.place = replace(entrant.place, backup=step.value)
    place = entrant.place
    command = entrant.contestant.command(step, place)
    if command is None:
        return None
    place.restored.mkdir(exist_ok=True)
    read_all(place.image if step.makes_backup else place.repository)
    subprocess.run(["sync", "-f", str(place.folder)], check=True)
    taken = measure(command, place.folder, entrant.contestant.environment(place))
    if step.makes_backup:
        entrant.protected = digest(place.image)
    if step is Measure.RESTORE:
        _verify(entrant)
    return Sample(entrant.contestant.name, step, number, taken, allocated_bytes(place.repository))


def _verify(entrant: _Entrant) -> None:
    [restored] = [each for each in entrant.place.restored.rglob("*") if each.is_file()]
    if digest(restored) != entrant.protected:
        raise WrongDiskError(f"{entrant.contestant.name} restored a disk that is not the one it was given")
    shutil.rmtree(entrant.place.restored)


def digest(path: Path) -> str:
    """BLAKE3 of a file, hex."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def read_all(path: Path) -> None:
    """Read a file, or all files of a folder, so that the page cache holds them."""
    buffer = bytearray(_READ_BYTES)
    for each in [path] if path.is_file() else path.rglob("*"):
        if each.is_file():
            with open(each, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def allocated_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk, holes not counted."""
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file())
