"""How people name a recovery point: ``web@latest``, ``web@2026-11-23T14:00``, or the beginning of its id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

from stillframe.errors import UsageError
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.retention import newest_first

LATEST = "latest"
MIN_PREFIX_CHARACTERS = 4

_ID_PREFIX = re.compile(r"[0-9a-f]{4,16}", re.IGNORECASE)
_A_DAY = re.compile(r"\d{4}-?(\d{2}-?\d{2}|W\d{2}(-?\d)?)")
_FORMS = "Write MACHINE@latest, MACHINE@2026-11-23T14:00, or at least 4 characters of a point's id."


def find_point(points: Iterable[RecoveryPoint], text: str, zone: tzinfo | None = None) -> RecoveryPoint:
    """The one recovery point that ``text`` names.

    ``MACHINE@TIME`` is the newest point at or before that moment. A time without a zone is in ``zone`` (None:
    this computer's); a repeated hour means its first. A time is to the second and includes that second, for
    lists of points show no more.

    Raises:
        UsageError: it names none, or more than one.
    """
    known = list(points)
    if "@" in text:
        machine, _, moment = text.rpartition("@")
        return _of_machine(known, machine, moment, zone)
    return _by_prefix(known, text)


def _of_machine(
    points: Sequence[RecoveryPoint], machine: str, moment: str, zone: tzinfo | None
) -> RecoveryPoint:
    own = newest_first(point for point in points if point.machine == machine)
    if not own:
        machines = sorted({point.machine for point in points})
        raise UsageError(
            f"there is no recovery point of a machine {machine!r}",
            hint=f"Machines: {', '.join(machines)}" if machines else "The repository has no points yet.",
        )
    if moment == LATEST:
        return own[0]
    end = _end_of(moment, zone)
    for point in own:
        if point.time < end:
            return point
    raise UsageError(
        f"there is no recovery point of {machine} at or before {moment}",
        hint=f"Its first is of {own[-1].time.astimezone(zone).isoformat(timespec='seconds')}.",
    )


def _end_of(text: str, zone: tzinfo | None) -> datetime:
    """The first moment that is after the one which ``text`` means."""
    if _A_DAY.fullmatch(text):
        raise UsageError(
            f"{text!r} is a whole day, not a moment",
            hint=f"For the last point of that day write {text}T23:59:59.",
        )
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone) if zone else moment.astimezone()
        exact = timedelta(microseconds=1)
        return moment.astimezone(UTC) + (exact if moment.microsecond else timedelta(seconds=1))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is not a time", hint=_FORMS) from error


def _by_prefix(points: Sequence[RecoveryPoint], text: str) -> RecoveryPoint:
    if any(point.machine == text for point in points):
        raise UsageError(f"{text!r} is a machine, not a point", hint=f"Write {text}@{LATEST} for its newest.")
    if not _ID_PREFIX.fullmatch(text):
        raise UsageError(f"{text!r} names no recovery point", hint=_FORMS)
    found = [point for point in points if point.point_id.startswith(text.lower())]
    if not found:
        raise UsageError(
            f"there is no recovery point whose id begins with {text}", hint="See: stillframe points"
        )
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} recovery points have ids that begin with {text}",
            hint=", ".join(f"{point.point_id} ({point.machine})" for point in found[:5]),
        )
    return found[0]
