"""``stillframe disk``: look at, convert and compare virtual disk files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillframe.cli.output import print_fields, print_json, print_json_list, print_table, progress_bar
from stillframe.cli.sizes import format_size, parse_size
from stillframe.disk.create import DiskFormat, DiskKind
from stillframe.errors import UsageError

if TYPE_CHECKING:
    from stillframe.disk.facts import FormatFacts
    from stillframe.disk.still import Extent, StillDisk

app = typer.Typer(help="Look at, convert and compare virtual disk files.", no_args_is_help=True)

DiskFile = Annotated[Path, typer.Argument(metavar="FILE", help="A VHDX, VHD, qcow2 or raw file, or device.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ParentDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--parent-dir",
        metavar="DIR",
        help="Look for parents here too, not only beside their child. Repeatable.",
    ),
]


@contextmanager
def _opened(path: Path, parent_dirs: Sequence[Path] | None) -> Iterator[StillDisk]:
    from stillframe.disk.open import open_disk

    with closing(open_disk(path, search=parent_dirs or ())) as disk:
        yield disk


@app.command()
def info(file: DiskFile, parent_dir: ParentDirs = None, as_json: AsJson = False) -> None:
    """Show what a disk file is: format, sizes, parents, and what to be careful about."""
    from stillframe.disk.describe import facts_of

    with _opened(file, parent_dir) as disk:
        facts, data_bytes = facts_of(disk), _data_bytes(disk)
        if as_json:
            print_json(_info_json(file, disk, facts, data_bytes))
        else:
            print_fields(_info_fields(file, disk, facts, data_bytes))


def _data_bytes(disk: StillDisk) -> int:
    from stillframe.disk.still import ExtentKind

    return sum(extent.length_bytes for extent in disk.extents() if extent.kind is ExtentKind.DATA)


def _info_json(file: Path, disk: StillDisk, facts: FormatFacts, data_bytes: int) -> dict[str, object]:
    return {
        "file": str(file),
        "format": facts.format,
        "type": facts.kind,
        "disk_id": disk.disk_id,
        "size_bytes": disk.geometry.size_bytes,
        "logical_sector_bytes": disk.geometry.logical_sector_bytes,
        "physical_sector_bytes": disk.geometry.physical_sector_bytes,
        "block_size_bytes": facts.block_bytes,
        "data_bytes": data_bytes,
        "file_size_bytes": file.stat().st_size,
        "creator": facts.creator,
        "parents": list(facts.parents),
        "notes": list(facts.notes),
    }


def _info_fields(
    file: Path, disk: StillDisk, facts: FormatFacts, data_bytes: int
) -> Iterator[tuple[str, str]]:
    geometry = disk.geometry
    yield "file", str(file)
    yield "format", f"{facts.format}, {facts.kind}"
    yield "disk id", disk.disk_id
    yield "size", f"{format_size(geometry.size_bytes)} ({geometry.size_bytes} bytes)"
    yield "sectors", f"{geometry.logical_sector_bytes} bytes, physical {geometry.physical_sector_bytes}"
    if facts.block_bytes:
        yield "blocks", format_size(facts.block_bytes)
    yield "data", f"at most {format_size(data_bytes)}"
    if facts.creator:
        yield "made by", facts.creator
    yield from (("parent", parent) for parent in facts.parents)
    yield from (("note", note) for note in facts.notes)


@app.command()
def extents(file: DiskFile, parent_dir: ParentDirs = None, as_json: AsJson = False) -> None:
    """List which ranges hold data, which are zero and which were never written, without reading them."""
    from stillframe.disk.still import joined

    with _opened(file, parent_dir) as disk:
        found = joined(disk.extents())
        if as_json:
            print_json_list(_extent_json(each) for each in found)
        else:
            rows = ((str(each.offset_bytes), str(each.length_bytes), each.kind.value) for each in found)
            print_table(("offset", "length", "kind"), rows, right=(0, 1))


def _extent_json(extent: Extent) -> dict[str, object]:
    return {
        "offset_bytes": extent.offset_bytes,
        "length_bytes": extent.length_bytes,
        "kind": extent.kind.value,
    }


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The disk to read.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="The file to make.")],
    format: Annotated[DiskFormat | None, typer.Option(help="Default: what DST's suffix says.")] = None,
    kind: Annotated[DiskKind | None, typer.Option("--type", help="For VHDX and VHD.")] = None,
    block_size: Annotated[
        int | None, typer.Option(parser=parse_size, metavar="SIZE", help="For example 1MiB or 32M.")
    ] = None,
    parent_dir: ParentDirs = None,
    force: Annotated[bool, typer.Option("--force", help="Replace DST if it exists.")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Make the same file from the same disk every time.")
    ] = False,
) -> None:
    """Copy a disk, with all its parents, into a new standalone file, sparse wherever it is zero."""
    from stillframe.disk.convert import copy_disk, finishing
    from stillframe.disk.create import create_disk, format_of_name
    from stillframe.disk.stamp import check_unchanged, still_stamp

    chosen = format or format_of_name(destination)
    before = still_stamp(source)
    with _opened(source, parent_dir) as disk, _replacing(disk, source, destination, force) as path:
        target = create_disk(
            path,
            disk.geometry,
            format=chosen,
            kind=kind,
            block_size_bytes=block_size,
            deterministic=deterministic,
        )
        with progress_bar() as progress, finishing(target):
            statistics = copy_disk(disk, target, progress)
            check_unchanged(source, before)
    written, zero = statistics.written_bytes, statistics.found_zero_bytes + statistics.known_zero_bytes
    print(f"{destination}: {format_size(written)} written, {format_size(zero)} zero")


@contextmanager
def _replacing(disk: StillDisk, source: Path, destination: Path, force: bool) -> Iterator[Path]:
    """Where to make the new file: DST, or beside it and then in its place."""
    if not os.path.lexists(destination):
        yield destination
        return
    _check_replaceable(disk, source, destination, force)
    from stillframe.disk.staged import sync_folder, temporary_beside, writing

    temporary = temporary_beside(destination)
    try:
        yield temporary
        with writing(destination):
            os.replace(temporary, destination)
            sync_folder(destination.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _check_replaceable(disk: StillDisk, source: Path, destination: Path, force: bool) -> None:
    from stillframe.disk.describe import facts_of

    if not force:
        raise UsageError(
            f"{destination}: exists already", hint="Choose another name, or replace it with --force."
        )
    if not destination.is_file():
        raise UsageError(f"{destination}: is not a file, so it is not replaced")
    used = (source, *(Path(parent) for parent in facts_of(disk).parents))
    if any(each.exists() and destination.samefile(each) for each in used):
        raise UsageError(f"{destination}: is what is to be read")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="One disk.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other disk.")],
    parent_dir: ParentDirs = None,
) -> None:
    """Compare two disks as a guest sees them; exit 0 if they are equal, 1 if they differ."""
    from stillframe.disk.compare import compare_disks

    with _opened(first, parent_dir) as one, _opened(second, parent_dir) as other, progress_bar() as progress:
        difference = compare_disks(one, other, progress)
        sizes = one.geometry.size_bytes, other.geometry.size_bytes
    if difference is None:
        print("equal")
        return
    if difference == min(sizes):
        print(f"different: equal up to offset {difference}, but of {sizes[0]} and {sizes[1]} bytes")
    else:
        print(f"different: first at offset {difference}")
    raise typer.Exit(1)
