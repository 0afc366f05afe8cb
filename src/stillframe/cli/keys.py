"""``stillframe repo key``: the ways to unlock a repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillframe.cli.options import (
    NEW_PASSPHRASE_VARIABLE,
    Json,
    NewPassphraseFile,
    PassphraseFile,
    Repo,
    new_passphrase,
    opened,
    opened_storage,
    passphrase,
)
from stillframe.cli.output import print_json, print_table
from stillframe.disk.staged import CannotWriteError, writing
from stillframe.errors import UsageError

if TYPE_CHECKING:
    from stillframe.repository.slots import Slot

app = typer.Typer(
    help="Passphrases, recovery keys and writers' credentials. "
    "Who has once unlocked the repository knows its keys: removing a passphrase does not take them back.",
    no_args_is_help=True,
)

SlotId = Annotated[
    str, typer.Argument(metavar="SLOT", help="The beginning of a slot's id.", show_default=False)
]
Label = Annotated[str, typer.Option(metavar="TEXT", help="What it is for, as `list` shows it.")]


@app.command("list")
def list_keys(repo: Repo, as_json: Json = False) -> None:
    """List the ways to unlock the repository; needs no key."""
    from stillframe.repository.config import read_config
    from stillframe.repository.unlocking import load_config, read_slots

    with opened_storage(repo) as storage:
        slots = read_slots(storage, read_config(load_config(storage)))
    if as_json:
        print_json([_slot_json(slot) for slot in slots])
    else:
        rows = [(slot.slot_id, slot.kind, slot.created, slot.label) for slot in slots]
        print_table(("slot", "kind", "created", "label"), rows)


@app.command()
def add(
    repo: Repo,
    label: Label = "",
    recovery: Annotated[
        bool, typer.Option("--recovery", help="A further recovery key in place of a passphrase.")
    ] = False,
    new_passphrase_file: NewPassphraseFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Add a passphrase, or a recovery key."""
    from stillframe.repository.keyring import add_passphrase, add_recovery_key

    if recovery and new_passphrase_file:
        raise UsageError("--recovery and --new-passphrase-file exclude each other")
    with opened(repo, passphrase_file, None) as repository:
        access = repository.storage, repository.config, repository.knowledge.bundle
        if recovery:
            slot, printed = add_recovery_key(*access, label or "recovery key")
        else:
            secret = new_passphrase(new_passphrase_file, NEW_PASSPHRASE_VARIABLE, "--new-passphrase-file")
            slot, printed = add_passphrase(*access, secret, label), None
    _print_slot(slot, "added slot", as_json=as_json, recovery_key=printed)


@app.command()
def remove(repo: Repo, slot: SlotId, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """Remove a passphrase or recovery key; the last way in is never removed."""
    from stillframe.repository.keyring import remove_slot

    with opened(repo, passphrase_file, None) as repository:
        removed = remove_slot(repository.storage, repository.config, repository.knowledge.bundle, slot)
    _print_slot(removed, "removed slot", as_json=as_json)


@app.command()
def passwd(
    repo: Repo,
    new_passphrase_file: NewPassphraseFile = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Put a new passphrase in the place of the one that you give."""
    from stillframe.repository.keyring import open_passphrase_slot, replace_passphrase
    from stillframe.repository.unlocking import load_config

    with opened_storage(repo) as storage:
        load_config(storage)
        config, slot, bundle = open_passphrase_slot(storage, passphrase(passphrase_file))
        new = new_passphrase(new_passphrase_file, NEW_PASSPHRASE_VARIABLE, "--new-passphrase-file")
        replacement = replace_passphrase(storage, config, slot, bundle, new)
    _print_slot(replacement, f"slot {slot.slot_id} gave way to", as_json=as_json)


@app.command("export-writer")
def export_writer(
    repo: Repo,
    file: Annotated[Path, typer.Argument(help="The file to make, for its owner only.", show_default=False)],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make the credential of a host that may add recovery points and not read what disks hold."""
    from stillframe.repository.credential import WriterCredential

    with opened(repo, passphrase_file, None) as repository:
        credential = WriterCredential(repository.config.repository_id, repository.knowledge.bundle)
    _write_private(file, credential.to_bytes())
    print(f"{file}: keep it secret; its holder can list points, see which blocks are alike, and add points")


def _write_private(file: Path, data: bytes) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{file}: cannot be made: {error.strerror}") from error
    try:
        with writing(file), os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    except CannotWriteError:
        file.unlink()
        raise


def _slot_json(slot: Slot) -> dict[str, Any]:
    return {"slot": slot.slot_id, "kind": slot.kind, "created": slot.created, "label": slot.label}


def _print_slot(slot: Slot, done: str, *, as_json: bool, recovery_key: str | None = None) -> None:
    if as_json:
        print_json({**_slot_json(slot), **({"recovery_key": recovery_key} if recovery_key else {})})
        return
    print(f"{done} {slot.slot_id} ({slot.kind})")
    if recovery_key:
        print(f"\n  {recovery_key}\n\nIt opens everything and is shown only now: keep it elsewhere.")
