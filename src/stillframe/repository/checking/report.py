"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One damaged or lost object, or an inconsistency; ``what`` says it for people."""

    name: str
    what: str

    def to_json(self) -> dict[str, Any]:
        return {"object": self.name, "problem": self.what}


@dataclass(frozen=True, slots=True)
class Affected:
    """Part of a recovery point that cannot be restored. ``ranges``: offset and length in bytes, ascending."""

    point_id: str
    machine: str
    disk: str
    ranges: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "point": self.point_id,
            "machine": self.machine,
            "disk": self.disk,
            "ranges": [list(extent) for extent in self.ranges],
        }


@dataclass
class CheckReport:
    """The result of a check; all is well if there are no problems."""

    problems: list[Problem] = field(default_factory=list)
    affected: list[Affected] = field(default_factory=list)
    lost: set[bytes] = field(default_factory=set)
    """Ids of blobs of which no good copy was found."""

    damaged_packs: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    """By pack id: the blobs in it that are bad."""

    entries: int = 0
    points: int = 0
    packs: int = 0
    blobs: int = 0
    read_bytes: int = 0

    @property
    def is_good(self) -> bool:
        return not self.problems and not self.affected

    def add(self, name: str, what: str) -> None:
        self.problems.append(Problem(name, what))

    def to_json(self) -> dict[str, Any]:
        return {
            "good": self.is_good,
            "problems": [problem.to_json() for problem in self.problems],
            "affected": [affected.to_json() for affected in self.affected],
            "entries": self.entries,
            "points": self.points,
            "packs": self.packs,
            "blobs": self.blobs,
            "read_bytes": self.read_bytes,
        }
