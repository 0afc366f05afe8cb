"""``stillframe restore``: get a disk back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillframe.cli.options import Json, PassphraseFile, Repo, opened
from stillframe.cli.output import print_json, progress_bar, warn
from stillframe.cli.sizes import format_size, parse_size
from stillframe.cli.spec import Point, resolve_disk, resolve_point
from stillframe.cli.times import format_local
from stillframe.disk.create import DiskFormat, DiskKind
from stillframe.errors import UsageError
from stillframe.repository.points import Consistency

if TYPE_CHECKING:
    from stillframe.progress import Progress
    from stillframe.recovery.disk import RestoreReport
    from stillframe.repository.points import PointDisk, RecoveryPoint
    from stillframe.repository.repository import Repository

app = typer.Typer(help="Get disks back.", no_args_is_help=True)


@app.command()
def disk(
    point: Point,
    name: Annotated[
        str, typer.Argument(metavar="DISK", help="As `points show` lists it.", show_default=False)
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="The file to make.", show_default=False)],
    repo: Repo,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="DST is a raw file or device: write only the blocks that differ."),
    ] = False,
    format: Annotated[DiskFormat | None, typer.Option(help="Default: what DST's suffix says.")] = None,
    kind: Annotated[DiskKind | None, typer.Option("--type", help="For VHDX and VHD.")] = None,
    block_size: Annotated[
        int | None, typer.Option(parser=parse_size, metavar="SIZE", help="For example 1MiB or 32M.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Write a disk of a recovery point to a new file, or over an old one; every block is verified."""
    if in_place and (format or kind or block_size):
        raise UsageError("--in-place keeps the format of DST: leave out --format, --type and --block-size")
    with opened(repo, passphrase_file, None) as repository, progress_bar(quiet=as_json) as progress:
        found = resolve_point(repository, point)
        wanted = resolve_disk(found, name)
        if in_place:
            report = _over(repository, wanted, destination, progress)
        else:
            report = _anew(repository, wanted, destination, progress, format, kind, block_size)
    if as_json:
        print_json(
            {"point": found.point_id, "disk": name, "destination": str(destination), **report.to_json()}
        )
    else:
        print(_summary(found, report, destination))
    if found.consistency is Consistency.INCONSISTENT:
        warn(f"this point is marked inconsistent: {found.consistency_reason}")


def _anew(
    repository: Repository,
    disk: PointDisk,
    destination: Path,
    progress: Progress,
    format: DiskFormat | None,
    kind: DiskKind | None,
    block_size: int | None,
) -> RestoreReport:
    from stillframe.disk.create import format_of_name
    from stillframe.recovery.disk import restore_disk

    return restore_disk(
        repository,
        disk,
        destination,
        format=format or format_of_name(destination),
        kind=kind,
        block_size_bytes=block_size,
        progress=progress,
    )


def _over(repository: Repository, disk: PointDisk, destination: Path, progress: Progress) -> RestoreReport:
    from stillframe.recovery.disk import restore_in_place

    return restore_in_place(repository, disk, destination, progress=progress)


def _summary(point: RecoveryPoint, report: RestoreReport, destination: Path) -> str:
    parts = [f"{format_size(report.written_bytes)} written", f"{format_size(report.zero_bytes)} zero"]
    if report.equal_bytes:
        parts.append(f"{format_size(report.equal_bytes)} equal already")
    return f"{destination}: {point.machine} of {format_local(point.time)}: {', '.join(parts)}"
