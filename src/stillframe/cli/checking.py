"""``stillframe repo check``: is everything there, and as it was written?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillframe.cli.options import Json, KeyFile, PassphraseFile, Repo, opened, opened_storage
from stillframe.cli.output import print_json, printable, progress_bar
from stillframe.cli.sizes import format_size
from stillframe.errors import UsageError

if TYPE_CHECKING:
    from stillframe.progress import Progress
    from stillframe.repository.checking.report import Affected, CheckReport

_SHOWN_RANGES = 8


def check(
    repo: Repo,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read, decrypt, decode and hash all guest data too.")
    ] = False,
    no_key: Annotated[
        bool,
        typer.Option("--no-key", help="Without any key: compare every pack and segment with its hash."),
    ] = False,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Verify log, index, packs and trees; exit 1 if anything is damaged.

    Damage is told with the points, disks and ranges that it touches; what it does not touch restores as ever.
    """
    if no_key and (read_data or passphrase_file or key_file):
        raise UsageError("--no-key uses no key and reads every byte already: leave the other options out")
    with progress_bar(quiet=as_json) as progress:
        if no_key:
            report = _scrub(repo, progress)
        else:
            report = _check(repo, passphrase_file, key_file, progress, read_data=read_data)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    if not report.is_good:
        raise typer.Exit(1)


def _scrub(repo: str, progress: Progress) -> CheckReport:
    from stillframe.repository.checking.scrub import scrub

    with opened_storage(repo) as storage:
        return scrub(storage, progress)


def _check(
    repo: str, passphrase_file: Path | None, key_file: Path | None, progress: Progress, *, read_data: bool
) -> CheckReport:
    from stillframe.repository.checking.check import check as check_repository
    from stillframe.repository.checking.report import CheckReport
    from stillframe.repository.errors import DamagedError

    try:
        with opened(repo, passphrase_file, key_file) as repository:
            return check_repository(repository, read_data=read_data, progress=progress)
    except DamagedError as error:  # so badly that it cannot even be opened
        report = CheckReport()
        report.add("repository", str(error))
        return report


def _print(report: CheckReport) -> None:
    for problem in report.problems:
        print(printable(f"damaged: {problem.name}: {problem.what}"))
    for affected in report.affected:
        print(printable(f"touched: {_touched(affected)}"))
    counted = (
        (report.entries, "log entries"),
        (report.points, "points"),
        (report.packs, "packs"),
        (report.blobs, "blobs"),
    )
    seen = ", ".join(f"{count} {what}" for count, what in counted if count)
    print(f"{seen or 'nothing yet'}; {format_size(report.read_bytes)} read")
    print("all is well" if report.is_good else f"{len(report.problems)} problems")


def _touched(affected: Affected) -> str:
    shown = [f"{offset}+{length}" for offset, length in affected.ranges[:_SHOWN_RANGES]]
    if len(affected.ranges) > _SHOWN_RANGES:
        shown.append(f"and {len(affected.ranges) - _SHOWN_RANGES} more")
    ranges = f": {', '.join(shown)}" if shown else ""
    return f"point {affected.point_id} of {affected.machine}, {affected.disk}{ranges}"
