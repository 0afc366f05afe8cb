"""Which recovery points to keep: pure rules over what is there; no clock is asked.

Every rule stands by itself, and a point lives if any rule keeps it. ``last=3`` keeps the three newest
points. ``daily=7`` goes back from the newest point over days *that have points*, seven of them, and keeps one
of each: so a machine that stood still for a month loses nothing meanwhile. A period is represented by its
newest point that is not marked inconsistent, or by its newest if all are.

Days begin where the time zone says, weeks on Monday, and a week belongs to a year as in ISO 8601. The hour
that a clock set back repeats is two hours.

Whatever the rules say, these stay: points that are pinned, the machine's newest application-consistent point,
and its newest point that is not marked inconsistent, by time and by the order of the log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, tzinfo

from stillframe.repository.points import Consistency, RecoveryPoint


@dataclass(frozen=True, slots=True)
class KeepRules:
    """How many points, and how many periods of each length, are to be kept."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @property
    def keep_nothing(self) -> bool:
        return not any(getattr(self, rule.name) for rule in fields(self))

    def describe(self) -> str:
        """As the log keeps it for people: ``keep daily 7, weekly 4``."""
        rules = ((rule.name, getattr(self, rule.name)) for rule in fields(self))
        return "keep " + ", ".join(f"{name} {count}" for name, count in rules if count)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a point. ``reasons`` say why it is kept; it is forgotten if there are none."""

    point: RecoveryPoint
    reasons: tuple[str, ...]

    @property
    def is_kept(self) -> bool:
        return bool(self.reasons)


Period = Callable[[datetime], str]


def _hour(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H%z}"  # with the offset: a clock set back repeats an hour


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _week(moment: datetime) -> str:
    return f"{moment:%G-W%V}"


def _month(moment: datetime) -> str:
    return f"{moment:%Y-%m}"


def _year(moment: datetime) -> str:
    return f"{moment:%Y}"


_PERIODS: Mapping[str, Period] = {
    "hourly": _hour,
    "daily": _day,
    "weekly": _week,
    "monthly": _month,
    "yearly": _year,
}


def judge(points: Iterable[RecoveryPoint], rules: KeepRules, zone: tzinfo | None = None) -> list[Verdict]:
    """What the rules say of each point, machine by machine, the newest first.

    ``zone`` None is the local time of this computer, as it was at each moment.
    """
    machines: dict[str, list[RecoveryPoint]] = defaultdict(list)
    for point in points:
        machines[point.machine].append(point)
    return [verdict for name in sorted(machines) for verdict in _judge_machine(machines[name], rules, zone)]


def newest_first(points: Iterable[RecoveryPoint]) -> list[RecoveryPoint]:
    """By the time at which the disks stood still; the log decides between equals."""
    return sorted(points, key=lambda point: (point.time, point.number), reverse=True)


def _judge_machine(points: list[RecoveryPoint], rules: KeepRules, zone: tzinfo | None) -> Iterator[Verdict]:
    ordered = newest_first(points)
    reasons: dict[str, list[str]] = defaultdict(list)
    for point in ordered[: rules.last]:
        reasons[point.point_id].append("last")
    for rule, period in _PERIODS.items():
        for name, point in _representatives(ordered, period, getattr(rules, rule), zone):
            reasons[point.point_id].append(f"{rule} {name}")
    for point, reason in _untouchable(ordered):
        reasons[point.point_id].append(reason)
    for point in ordered:
        yield Verdict(point, tuple(reasons[point.point_id]))


def _representatives(
    ordered: list[RecoveryPoint], period: Period, count: int, zone: tzinfo | None
) -> list[tuple[str, RecoveryPoint]]:
    """The point of each of the newest ``count`` periods that have one."""
    chosen: dict[str, RecoveryPoint] = {}
    for point in ordered if count else ():
        name = period(point.time.astimezone(zone))
        if name not in chosen and len(chosen) == count:
            break
        if name not in chosen or (_is_usable(point) and not _is_usable(chosen[name])):
            chosen[name] = point
    return list(chosen.items())


def _untouchable(ordered: list[RecoveryPoint]) -> Iterator[tuple[RecoveryPoint, str]]:
    yield from ((point, "pinned") for point in ordered if point.pinned)
    application = (point for point in ordered if point.consistency is Consistency.APPLICATION)
    for point in application:
        yield point, "last application-consistent"
        break
    usable = [point for point in ordered if _is_usable(point)]
    if usable:
        yield usable[0], "last consistent"
        stored_last = max(usable, key=lambda point: point.number)
        if (
            stored_last is not usable[0]
        ):  # a clock ran ahead: without this, every new point would be forgotten
            yield stored_last, "stored last"


def _is_usable(point: RecoveryPoint) -> bool:
    return point.consistency is not Consistency.INCONSISTENT
