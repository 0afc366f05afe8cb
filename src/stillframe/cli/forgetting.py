"""What ``stillframe points forget`` decides, and how it says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from stillframe.cli.output import print_json, print_table
from stillframe.cli.spec import resolve_point
from stillframe.cli.times import format_local
from stillframe.errors import UsageError
from stillframe.repository.repository import Repository
from stillframe.repository.retention import KeepRules, Verdict, judge


def check_form(named: Sequence[str], rules: KeepRules, machine: str | None, *, utc: bool) -> None:
    """Points by name, or rules: not both, and not neither.

    Raises:
        UsageError: it is neither form, or a mixture.
    """
    if named and (not rules.keep_nothing or machine is not None or utc):
        raise UsageError("name points, or give rules (--keep-..., --machine, --utc); not both")
    if not named and rules.keep_nothing:
        raise UsageError(
            "nothing says which points to forget", hint="Name points, or say what to keep: --keep-daily 14"
        )


def by_name(repository: Repository, named: Sequence[str]) -> list[Verdict]:
    """Verdicts on the points that were named; those that are pinned cannot be forgotten.

    Raises:
        UsageError: a name is wrong, or a point is pinned.
    """
    points = {point.point_id: point for point in (resolve_point(repository, text) for text in named)}
    for point in points.values():
        if point.pinned:
            raise UsageError(f"point {point.point_id} of {point.machine} is pinned; nothing was forgotten")
    return [Verdict(point, ()) for point in points.values()]


def by_rules(repository: Repository, rules: KeepRules, machine: str | None, *, utc: bool) -> list[Verdict]:
    """Verdicts on all points, or those of one machine.

    Raises:
        UsageError: there is no such machine.
    """
    points = [point for point in repository.points() if machine in (None, point.machine)]
    if machine is not None and not points:
        raise UsageError(f"there is no recovery point of a machine {machine!r}")
    return judge(points, rules, UTC if utc else None)


def print_verdicts(verdicts: Sequence[Verdict], *, dry_run: bool, as_json: bool) -> None:
    kept = [verdict for verdict in verdicts if verdict.is_kept]
    forgotten = [verdict for verdict in verdicts if not verdict.is_kept]
    if as_json:
        document: dict[str, Any] = {
            "dry_run": dry_run,
            "forgotten": [_verdict_json(verdict) for verdict in forgotten],
            "kept": [{**_verdict_json(verdict), "reasons": list(verdict.reasons)} for verdict in kept],
        }
        print_json(document)
        return
    rows = [_row(verdict) for verdict in verdicts]
    print_table(("point", "machine", "time", "", "why"), rows)
    done = "would be forgotten" if dry_run else "forgotten"
    print(f"{len(forgotten)} {done}" + (f", {len(kept)} kept" if kept else ""))
    if forgotten and not dry_run:
        print("their space comes back with: stillframe repo collect")


def _row(verdict: Verdict) -> tuple[str, ...]:
    point = verdict.point
    fate = "keep" if verdict.is_kept else "forget"
    return point.point_id, point.machine, format_local(point.time), fate, ", ".join(verdict.reasons)


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    point = verdict.point
    return {"id": point.point_id, "machine": point.machine, "time": point.to_json()["time"]}
