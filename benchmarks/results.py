"""What was measured, and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.contestants import Measure
from benchmarks.measured import Taken


@dataclass(frozen=True, slots=True)
class Sample:
    """One command of one round. ``stored_bytes``: what the repository takes on the disk after it."""

    contestant: str
    measure: Measure
    round: int
    taken: Taken
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of scale, in the unit that its name ends with (``..._s``, ``..._bytes``)."""

    name: str
    value: float


@dataclass(slots=True)
class Results:
    """All samples of a run, and the figures of scale."""

    samples: list[Sample] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def of(self, contestant: str, measure: Measure) -> list[Sample]:
        """The samples of one measure, in the order of the rounds."""
        return [each for each in self.samples if (each.contestant, each.measure) == (contestant, measure)]

    def wall_s(self, contestant: str, measure: Measure) -> float | None:
        """Median wall clock time, sync included; None: not measured."""
        return _median(each.taken.wall_s for each in self.of(contestant, measure))

    def cpu_s(self, contestant: str, measure: Measure) -> float | None:
        """Median processor time of the command; None: not measured."""
        return _median(each.taken.cpu_s for each in self.of(contestant, measure))

    def stored_bytes(self, contestant: str, measure: Measure) -> float | None:
        """Median size of the repository after a measure; None: not measured."""
        return _median(each.stored_bytes for each in self.of(contestant, measure))

    def memory_bytes(self, contestant: str, measure: Measure | None = None) -> int | None:
        """Highest peak of one measure or of all; None: not measured."""
        peaks = [
            each.taken.memory_bytes
            for each in self.samples
            if each.contestant == contestant and measure in (None, each.measure)
        ]
        return max(peaks, default=None)

    def figure(self, name: str) -> float | None:
        """A figure of scale; None: not measured."""
        return next((each.value for each in self.figures if each.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "samples": [asdict(each) for each in self.samples],
            "figures": [asdict(each) for each in self.figures],
        }


def _median(values: Iterable[float]) -> float | None:
    sequence = list(values)
    return median(sequence) if sequence else None
