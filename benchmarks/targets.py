"""The figures to reach: what Stillframe promises of itself, beside others on the same machine or as such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmarks.contestants import Measure
from benchmarks.results import Results

OURS = "stillframe"
MIB = 1 << 20


class Quantity(Protocol):
    """A number to look up in results; None: not measured."""

    def __call__(self, results: Results, contestant: str) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Wall:
    """Median wall clock time of a measure, in seconds."""

    measure: Measure

    def __call__(self, results: Results, contestant: str) -> float | None:
        return results.wall_s(contestant, self.measure)


@dataclass(frozen=True, slots=True)
class Stored:
    """Median size of the repository after a measure, in bytes."""

    measure: Measure

    def __call__(self, results: Results, contestant: str) -> float | None:
        return results.stored_bytes(contestant, self.measure)


@dataclass(frozen=True, slots=True)
class Memory:
    """Highest peak memory of any measure, in bytes."""

    def __call__(self, results: Results, contestant: str) -> float | None:
        return results.memory_bytes(contestant)


@dataclass(frozen=True, slots=True)
class Scale:
    """A figure of scale, in the unit of its name."""

    figure: str

    def __call__(self, results: Results, contestant: str) -> float | None:
        return results.figure(self.figure) if contestant == OURS else None


@dataclass(frozen=True, slots=True)
class Target:
    """Ours is at most ``at_most`` times that of ``beside``; where nobody is beside, in the unit given."""

    title: str
    quantity: Quantity
    at_most: float
    beside: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what came of it. ``reached`` is a ratio, or a value in the unit of the target."""

    target: Target
    ours: float | None
    theirs: float | None

    @property
    def reached(self) -> float | None:
        """None: not measured."""
        if not self.target.beside:
            return self.ours
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def word(self) -> str:
        """``met``, ``missed`` or ``not measured``."""
        if self.reached is None:
            return "not measured"
        return "met" if self.reached <= self.target.at_most else "missed"


def _beside(title: str, quantity: Quantity, **factors: float) -> list[Target]:
    return [Target(title, quantity, at_most, beside) for beside, at_most in factors.items()]


TARGETS: tuple[Target, ...] = (
    *_beside("first backup", Wall(Measure.FIRST), borg=0.3, restic=0.22, cp=0.6),
    *_beside("unchanged, read again", Wall(Measure.UNCHANGED), borg=0.35, restic=0.35),
    *_beside("1 % changed, extents known", Wall(Measure.CHANGED), borg=0.15, restic=0.15),
    *_beside("restore the disk", Wall(Measure.RESTORE), borg=0.4, restic=0.7, cp=1.2),
    *_beside("check, all data read", Wall(Measure.CHECK), restic=0.35),
    *_beside("repository size, first backup", Stored(Measure.FIRST), restic=1.05),
    *_beside("repository size, with the changes", Stored(Measure.CHANGED), restic=1.05),
    Target("peak memory of any measure", Memory(), 400 * MIB, unit="bytes"),
    Target("start: list the points", Wall(Measure.START), 0.25, unit="s"),
    Target("64 scattered changes, full 10 TiB disk", Scale("scattered_s"), 1, unit="s"),
    Target("the same, added beyond the data", Scale("scattered_beyond_data_bytes"), 384 * 1024, unit="bytes"),
    Target("points, 10 000 of 1 TiB disks", Scale("many_points_list_s"), 1, unit="s"),
    Target("points, 10 000: peak memory", Scale("many_points_list_memory_bytes"), 300 * MIB, unit="bytes"),
    Target("files ls, 10 000 points of 1 TiB disks", Scale("many_points_files_s"), 1, unit="s"),
    Target("files ls, 10 000: peak memory", Scale("many_points_files_memory_bytes"), 300 * MIB, unit="bytes"),
)


def verdicts(results: Results) -> list[Verdict]:
    """What came of every target."""
    return [
        Verdict(each, each.quantity(results, OURS), each.quantity(results, each.beside)) for each in TARGETS
    ]
