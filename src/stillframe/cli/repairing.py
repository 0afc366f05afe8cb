"""``stillframe repo repair``: mend what `repo check` found, from whatever still has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated

import typer

from stillframe.cli.options import DryRun, Json, PassphraseFile, Repo, opened, opened_storage
from stillframe.cli.output import print_fields, print_json, progress_bar
from stillframe.cli.spec import image_specs
from stillframe.errors import UsageError

if TYPE_CHECKING:
    from stillframe.progress import Progress
    from stillframe.repository.checking.repair_report import RepairReport
    from stillframe.repository.repository import Repository


def repair(
    repo: Repo,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DISK=]FILE",
            help="Take lost blocks from this image, which is called DISK in the points. Repeatable.",
        ),
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(metavar="URL", help="Take lost objects from this copy of the repository.")
    ] = None,
    index: Annotated[bool, typer.Option("--index", help="Make lost index segments anew from packs.")] = False,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Mend damage from an image, from a mirror, or the index from the packs; exit 1 if some of it is left.

    Nothing is believed: what is taken has to hash to what was lost; only what is proved bad is deleted.
    """
    if sum((bool(image), mirror is not None, index)) != 1:
        raise UsageError("say what to mend from: --image, --mirror or --index, one of them")
    with opened(repo, passphrase_file, None) as repository, progress_bar(quiet=as_json) as progress:
        if image:
            report = _from_images(repository, image, progress, dry_run=dry_run)
        elif mirror is not None:
            report = _from_mirror(repository, mirror, progress, dry_run=dry_run)
        else:
            report = _index(repository, progress, dry_run=dry_run)
    if as_json:
        print_json(report.to_json())
    else:
        print_fields(_fields(report))
    if report.still_lost:
        raise typer.Exit(1)


def _from_images(
    repository: Repository, texts: Sequence[str], progress: Progress, *, dry_run: bool
) -> RepairReport:
    from stillframe.disk.open import open_disk
    from stillframe.repository.checking.check import check
    from stillframe.repository.checking.images import Source, repair_from_images

    with ExitStack() as stack:
        sources = [
            Source(spec.name, stack.enter_context(closing(open_disk(spec.path))))
            for spec in image_specs(texts)
        ]
        damage = check(repository, read_data=True, progress=progress)
        return repair_from_images(repository, damage, sources, progress, dry_run=dry_run)


def _from_mirror(repository: Repository, url: str, progress: Progress, *, dry_run: bool) -> RepairReport:
    from stillframe.repository.checking.mirror import repair_from_mirror

    with opened_storage(url) as mirror:
        return repair_from_mirror(
            repository.storage, mirror, _named_objects(repository), progress, dry_run=dry_run
        )


def _named_objects(repository: Repository) -> list[str]:
    """All that the log says must be there; packs only as far as the index is whole."""
    from stillframe.repository.errors import DamagedError
    from stillframe.repository.packs import pack_name

    segments = list(repository.state.segments)
    try:
        packs = repository.index.packs
    except DamagedError:  # its segments are mended first, and a second run finds lost packs
        return segments
    return segments + [pack_name(kind, pack_id) for pack_id, (kind, _) in packs.items()]


def _index(repository: Repository, progress: Progress, *, dry_run: bool) -> RepairReport:
    from stillframe.repository.checking.rebuild import rebuild_index

    return rebuild_index(repository, progress, dry_run=dry_run)


def _fields(report: RepairReport) -> Iterator[tuple[str, str]]:
    done = "would mend" if report.dry_run else "mended"
    yield from ((done, name) for name in report.healed_objects)
    if report.healed_blobs:
        yield done, f"{report.healed_blobs} blobs"
    if report.indexed_packs:
        yield "indexed", f"{report.indexed_packs} packs"
    yield from (("replaced", name) for name in report.deleted_packs)
    yield "still lost", str(report.still_lost) if report.still_lost else "nothing"
