"""``stillframe repo``: make a repository, look at it, check it, tidy it up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillframe.cli import checking, keys, repairing
from stillframe.cli.options import (
    PASSPHRASE_VARIABLE,
    DryRun,
    Json,
    KeyFile,
    PassphraseFile,
    Repo,
    new_passphrase,
    opened,
)
from stillframe.cli.output import print_fields, print_json, progress_bar, warn
from stillframe.cli.sizes import format_size, parse_size
from stillframe.errors import UsageError

if TYPE_CHECKING:
    from stillframe.repository.collection.collect import CollectReport
    from stillframe.repository.repository import Repository
    from stillframe.repository.storage.base import Storage

app = typer.Typer(help="Make a repository, look at it, check it, manage its keys.", no_args_is_help=True)
app.command("check")(checking.check)
app.command("repair")(repairing.repair)
app.add_typer(keys.app, name="key")

_KEEP_IT = (
    "This is the recovery key. It opens everything, it is shown only now, and it is the only way in when the "
    "passphrase is lost: write it down and keep it elsewhere."
)


@app.command()
def init(
    repo: Repo,
    block_size: Annotated[
        int | None,
        typer.Option(
            parser=parse_size, metavar="SIZE", help="64KiB to 16MiB; fixed for ever. Default: 1MiB."
        ),
    ] = None,
    compression: Annotated[
        str | None, typer.Option(metavar="NAME", help="zstd:LEVEL or none. Default: zstd:1.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a repository; prints its recovery key, once."""
    from stillframe.repository.storage.open import open_storage

    _check_parameters(block_size, compression)
    storage = open_storage(repo, create=True)
    try:
        _refuse_existing(storage)
        passphrase = new_passphrase(passphrase_file, PASSPHRASE_VARIABLE, "--passphrase-file")
        made, recovery_key = _create(storage, passphrase, block_size, compression)
    finally:
        storage.close()
    if as_json:
        print_json({**_identity(made), "recovery_key": recovery_key})
        return
    print(f"made a repository at {storage.location}\n\n  {recovery_key}\n\n{_KEEP_IT}")


def _check_parameters(block_size: int | None, compression: str | None) -> None:
    from stillframe.repository.config import MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, compression_level

    if block_size is not None and not (
        MIN_BLOCK_BYTES <= block_size <= MAX_BLOCK_BYTES and block_size & (block_size - 1) == 0
    ):
        limits = f"{format_size(MIN_BLOCK_BYTES)} to {format_size(MAX_BLOCK_BYTES)}"
        raise UsageError(f"--block-size: must be a power of two, {limits}")
    try:
        compression_level(compression or "none")
    except ValueError:
        raise UsageError(
            f"--compression: {compression!r} is unknown", hint="Write zstd:1, or none."
        ) from None


def _refuse_existing(storage: Storage) -> None:
    """Before a passphrase is asked for; ``create_repository`` makes sure again."""
    from stillframe.repository.errors import NoRepositoryError
    from stillframe.repository.unlocking import load_config

    try:
        load_config(storage)
    except NoRepositoryError:
        return
    raise UsageError(f"{storage.location}: there is a repository already; nothing was changed")


def _create(
    storage: Storage, passphrase: str, block_bytes: int | None, compression: str | None
) -> tuple[Repository, str]:
    from stillframe.repository.repository import create_repository
    from stillframe.repository.storage.probe import probe

    probe(storage)
    return create_repository(storage, passphrase, block_bytes=block_bytes, compression=compression)


@app.command()
def info(
    repo: Repo, passphrase_file: PassphraseFile = None, key_file: KeyFile = None, as_json: Json = False
) -> None:
    """Show what the repository is and how much it holds."""
    with opened(repo, passphrase_file, key_file) as repository:
        facts = _facts(repository)
    if as_json:
        print_json(facts)
    else:
        print_fields(_info_fields(facts))


def _identity(repository: Repository) -> dict[str, Any]:
    config = repository.config
    return {
        "repository": repository.storage.location,
        "repository_id": config.repository_id,
        "created": config.created,
        "block_bytes": config.block_bytes,
        "fan_out": config.fan_out,
        "pack_bytes": config.pack_bytes,
        "compression": config.compression,
    }


def _facts(repository: Repository) -> dict[str, Any]:
    from stillframe.repository.packs import PackKind

    sizes = {PackKind.DATA: 0, PackKind.METADATA: 0}
    for kind, size_bytes in repository.index.packs.values():
        sizes[kind] += size_bytes
    state = repository.state
    return {
        **_identity(repository),
        "can_read": repository.knowledge.bundle.can_read,
        "log_entries": state.number,
        "machines": sorted({point.machine for point in state.points.values()}),
        "points": len(state.points),
        "forgotten_points": state.forgotten,
        "packs": len(repository.index.packs),
        "index_segments": len(state.segments),
        "blobs": len(repository.index),
        "data_bytes": sizes[PackKind.DATA],
        "metadata_bytes": sizes[PackKind.METADATA],
    }


def _info_fields(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "repository", facts["repository"]
    yield "id", facts["repository_id"]
    yield "made", facts["created"]
    yield "blocks", f"{format_size(facts['block_bytes'])}, {facts['compression']}"
    yield "machines", ", ".join(facts["machines"]) or "none yet"
    yield "points", f"{facts['points']} ({facts['forgotten_points']} forgotten)"
    yield "log", f"{facts['log_entries']} entries"
    yield "data", format_size(facts["data_bytes"])
    yield "metadata", format_size(facts["metadata_bytes"])
    yield "packs", f"{facts['packs']}, {facts['blobs']} blobs in {facts['index_segments']} index segments"
    if not facts["can_read"]:
        yield "note", "this credential can write and list, but not read what the disks hold"


@app.command()
def collect(
    repo: Repo, dry_run: DryRun = False, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """Give back the space of forgotten points, and tidy up small packs; writers may go on meanwhile."""
    from stillframe.repository.collection.collect import collect as collect_repository

    with opened(repo, passphrase_file, None) as repository, progress_bar(quiet=as_json) as progress:
        report = collect_repository(repository, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        print_fields(_collect_fields(report))
    if report.left_wasteful:
        warn("packs that hold much garbage were left: this credential cannot read, so it cannot rewrite them")


def _collect_fields(report: CollectReport) -> Iterator[tuple[str, str]]:
    yield "would free" if report.dry_run else "freed", format_size(report.freed_bytes)
    yield "in use", format_size(report.live_bytes)
    yield "deleted", f"{report.deleted_packs} packs, {report.deleted_orphans} abandoned objects"
    yield "rewritten", f"{report.rewritten_packs} packs into {report.written_packs}"
    yield "merged", f"{report.merged_segments} index segments"
    if report.suspects:
        yield "suspects", f"{report.suspects} unnamed objects; deleted next time if still unnamed"
