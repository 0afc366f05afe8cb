"""``stillframe points``: list, show, compare and forget recovery points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillframe.cli.groups import WithDefault
from stillframe.cli.options import DryRun, Json, KeyFile, PassphraseFile, Repo, opened
from stillframe.cli.output import print_fields, print_json, print_json_list, print_table
from stillframe.cli.sizes import format_size
from stillframe.cli.spec import POINT_HELP, Point, resolve_disk, resolve_point
from stillframe.cli.times import format_local

if TYPE_CHECKING:
    from stillframe.repository.points import PointDisk, RecoveryPoint
    from stillframe.repository.repository import Repository

app = typer.Typer(cls=WithDefault, help="List, show, compare and forget recovery points.")

Machine = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only points of this machine.", show_default=False)
]
Count = Annotated[int, typer.Option(metavar="N", min=0, show_default=False)]


@app.command("list")
def list_points(
    repo: Repo,
    machine: Machine = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """List recovery points, the oldest first (`stillframe points` alone does that too)."""
    with opened(repo, passphrase_file, key_file) as repository:
        points = [point for point in repository.points() if machine in (None, point.machine)]
    points.sort(key=lambda point: (point.time, point.number))
    if as_json:
        print_json_list(_point_json(point) for point in points)
        return
    headers = ("point", "machine", "time", "consistency", "kind", "disks", "size", "stored", "")
    print_table(headers, (_row(point) for point in points), right=(5, 6, 7))


def _point_json(point: RecoveryPoint) -> dict[str, Any]:
    return {**point.to_json(), "number": point.number}


def _row(point: RecoveryPoint) -> tuple[str, ...]:
    return (
        point.point_id,
        point.machine,
        format_local(point.time),
        point.consistency.value,
        point.kind,
        str(len(point.disks)),
        format_size(_size_bytes(point)),
        format_size(_stored_bytes(point)),
        "pinned" if point.pinned else "",
    )


def _size_bytes(point: RecoveryPoint) -> int:
    return sum(disk.geometry.size_bytes for disk in point.disks)


def _stored_bytes(point: RecoveryPoint) -> int:
    return int(point.statistics.get("stored_bytes", 0))


@app.command()
def show(
    point: Point,
    repo: Repo,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Show one recovery point and its disks."""
    with opened(repo, passphrase_file, key_file) as repository:
        found = resolve_point(repository, point)
    if as_json:
        print_json(_point_json(found))
        return
    print_fields(_point_fields(found))
    print()
    rows = ((disk.name, format_size(disk.geometry.size_bytes), disk.source) for disk in found.disks)
    print_table(("disk", "size", "from"), rows, right=(1,))


def _point_fields(point: RecoveryPoint) -> Iterator[tuple[str, str]]:
    yield "point", point.point_id
    yield "machine", point.machine
    yield "time", format_local(point.time)
    yield "consistency", f"{point.consistency.value}: {point.consistency_reason}"
    yield "kind", f"{point.kind}: {point.reason}"
    yield "log entry", str(point.number)
    if point.parent:
        yield "parent", point.parent
    if point.pinned:
        yield "pinned", "yes"
    yield from (("tag", f"{name}={value}") for name, value in sorted(point.tags.items()))
    yield from (
        (name.removesuffix("_bytes"), format_size(value))
        for name, value in point.statistics.items()
        if name.endswith("_bytes") and isinstance(value, int)
    )


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help=POINT_HELP, show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help=POINT_HELP, show_default=False)],
    repo: Repo,
    disk: Annotated[
        str | None, typer.Option(metavar="DISK", help="Only this disk.", show_default=False)
    ] = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """List the ranges of B's disks that may differ from A's, to the block; no guest data is read."""
    with opened(repo, passphrase_file, key_file) as repository:
        before, after = resolve_point(repository, first), resolve_point(repository, second)
        if disk is not None:
            resolve_disk(after, disk)
        disks = [_disk_diff(repository, before, each) for each in after.disks if disk in (None, each.name)]
        gone = [each.name for each in before.disks if disk is None and not after.disk(each.name)]
    if as_json:
        print_json({"from": before.point_id, "to": after.point_id, "disks": disks, "removed_disks": gone})
        return
    rows = [(each["name"], str(start), str(length)) for each in disks for start, length in each["extents"]]
    print_table(("disk", "offset", "length"), rows, right=(1, 2))
    for each in disks:
        print(f"{each['name']}: {each['state']}, {format_size(each['changed_bytes'])} may differ")
    for name in gone:
        print(f"{name}: removed")


def _disk_diff(repository: Repository, before: RecoveryPoint, disk: PointDisk) -> dict[str, Any]:
    """What of a disk may differ from the disk of the same name in an earlier point."""
    from stillframe.repository.still import changed_extents

    old = before.disk(disk.name)
    extents = list(changed_extents(repository, old or _empty_like(disk), disk))
    return {
        "name": disk.name,
        "state": _state(old, disk, bool(extents)),
        "changed_bytes": sum(extent.length_bytes for extent in extents),
        "extents": [[extent.offset_bytes, extent.length_bytes] for extent in extents],
    }


def _empty_like(disk: PointDisk) -> PointDisk:
    from dataclasses import replace

    return replace(disk, root=None)


def _state(old: PointDisk | None, new: PointDisk, differs: bool) -> str:
    if old is None:
        return "added"
    if old.geometry.size_bytes != new.geometry.size_bytes:
        return f"resized from {old.geometry.size_bytes} to {new.geometry.size_bytes} bytes"
    return "changed" if differs else "equal"


@app.command()
def forget(
    repo: Repo,
    points: Annotated[
        list[str] | None, typer.Argument(metavar="[POINT...]", help=POINT_HELP, show_default=False)
    ] = None,
    keep_last: Count = 0,
    keep_hourly: Count = 0,
    keep_daily: Count = 0,
    keep_weekly: Count = 0,
    keep_monthly: Count = 0,
    keep_yearly: Count = 0,
    utc: Annotated[bool, typer.Option("--utc", help="Days begin at midnight UTC, not local time.")] = False,
    machine: Machine = None,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Forget points: those that you name, or those that the rules do not keep.

    Each --keep-daily, --keep-weekly... goes back over so many days (weeks...) that have points, machine by
    machine, and keeps the newest consistent point of each. Pinned points, and the newest
    application-consistent one and the newest consistent one of each machine, stay whatever the rules say. The
    space comes back with `stillframe repo collect`.
    """
    from stillframe.cli.forgetting import by_name, by_rules, check_form, print_verdicts
    from stillframe.repository.retention import KeepRules

    rules = KeepRules(keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)
    check_form(points or [], rules, machine, utc=utc)
    with opened(repo, passphrase_file, None) as repository:
        verdicts = by_name(repository, points) if points else by_rules(repository, rules, machine, utc=utc)
        forgotten = [verdict.point.point_id for verdict in verdicts if not verdict.is_kept]
        if forgotten and not dry_run:
            repository.forget(forgotten, "named" if points else rules.describe())
    print_verdicts(verdicts, dry_run=dry_run, as_json=as_json)
