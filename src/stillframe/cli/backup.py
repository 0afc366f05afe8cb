"""``stillframe backup``: make a recovery point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillframe.cli.extents import read_changed
from stillframe.cli.options import Json, KeyFile, PassphraseFile, Repo, opened
from stillframe.cli.output import print_fields, print_json, progress_bar, warn
from stillframe.cli.sizes import format_size
from stillframe.cli.spec import check_name, image_specs
from stillframe.cli.times import format_local
from stillframe.repository.points import Consistency

if TYPE_CHECKING:
    from stillframe.protection.image import BackupReport
    from stillframe.repository.points import RecoveryPoint

app = typer.Typer(help="Make a recovery point.", no_args_is_help=True)


@app.command()
def image(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="[ALIAS=]FILE...", help="The machine's disk images, all of them.", show_default=False
        ),
    ],
    machine: Annotated[
        str, typer.Option(metavar="NAME", help="The machine that the disks belong to.", show_default=False)
    ],
    repo: Repo,
    changed: Annotated[
        Path | None,
        typer.Option(
            metavar="EXTENTS.json",
            help="All that changed since the machine's newest point: [[offset_bytes, length_bytes], ...], or "
            "an object of such lists by disk name. Only that is read.",
        ),
    ] = None,
    require: Annotated[
        Consistency | None,
        typer.Option(
            metavar="LEVEL", help="Make no point that is less than: crash, file-system, application."
        ),
    ] = None,
    parent_dir: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Look for parents of differencing disks here too. Repeatable."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Store disk images (VHDX, VHD, qcow2, raw) that nobody writes to meanwhile.

    The first run of a machine stores everything, every later one only what is new.
    """
    from stillframe.protection.image import backup_images

    check_name("machine", machine)
    specs = image_specs(files)
    extents = read_changed(changed, [spec.name for spec in specs]) if changed else None
    with opened(repo, passphrase_file, key_file) as repository, progress_bar(quiet=as_json) as progress:
        report = backup_images(
            repository,
            specs,
            machine=machine,
            changed=extents,
            require=require,
            search=parent_dir or (),
            progress=progress,
        )
        later = _later_than(report.point, repository.points())
    if as_json:
        print_json(report.to_json())
    else:
        print_fields(_report_fields(report))
    if report.point.consistency is Consistency.INCONSISTENT:
        warn(f"the point is marked inconsistent: {report.point.consistency_reason}")
    if later:
        warn(
            f"{len(later)} points of {machine} claim a later time than this one: a clock is or was wrong",
            hint=f"{machine}@latest and `points forget` go by times: forget {later[-1].point_id} by its id.",
        )


def _later_than(new: RecoveryPoint, points: Iterable[RecoveryPoint]) -> list[RecoveryPoint]:
    """Earlier points of the machine that claim a later time."""
    return [
        point
        for point in points
        if point.machine == new.machine and point.time > new.time and point.number < new.number
    ]


def _report_fields(report: BackupReport) -> Iterator[tuple[str, str]]:
    point, statistics = report.point, report.statistics
    yield "point", f"{point.point_id}  {point.machine}  {format_local(point.time)}"
    yield "consistency", f"{point.consistency.value}: {point.consistency_reason}"
    for disk in report.disks:
        yield "disk", f"{disk.name}: {disk.kind} ({disk.reason})"
    yield "read", f"{format_size(statistics.read_bytes)} of {format_size(statistics.size_bytes)}"
    yield "zero", format_size(statistics.zero_bytes)
    yield "unchanged", format_size(statistics.unchanged_bytes)
    yield "found", f"{format_size(statistics.found_bytes)} lay in the repository already"
    yield "new", f"{format_size(statistics.new_bytes)}, stored in {format_size(statistics.stored_bytes)}"
    yield "time", f"{statistics.wall_s:.2f} s"
