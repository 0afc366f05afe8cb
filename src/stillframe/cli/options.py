"""What the commands on a repository share: which one, and what opens it.

Imports are inside the functions on purpose. A key is derived on a thread in a tenth of a second; what else a
command needs is imported meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillframe.errors import UsageError

if TYPE_CHECKING:
    from stillframe.repository.config import Config
    from stillframe.repository.credential import WriterCredential
    from stillframe.repository.keys import Bundle
    from stillframe.repository.repository import Repository
    from stillframe.repository.storage.base import Storage

PASSPHRASE_VARIABLE = "STILLFRAME_PASSPHRASE"  # noqa: S105 (the name of a variable)
NEW_PASSPHRASE_VARIABLE = "STILLFRAME_NEW_PASSPHRASE"  # noqa: S105
KEY_FILE_VARIABLE = "STILLFRAME_KEY_FILE"

Repo = Annotated[
    str,
    typer.Option(
        "--repo",
        metavar="URL",
        envvar="STILLFRAME_REPO",
        help="The repository: a folder, or a file:// URL.",
        show_default=False,
    ),
]
OptionalRepo = Annotated[
    str | None,
    typer.Option(
        "--repo",
        metavar="URL",
        envvar="STILLFRAME_REPO",
        help="The repository, where a recovery point is named.",
        show_default=False,
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"The file with the passphrase or recovery key; else {PASSPHRASE_VARIABLE}, else a prompt.",
        show_default=False,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"A writer's credential in place of a passphrase; else {KEY_FILE_VARIABLE}.",
        show_default=False,
    ),
]
NewPassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"The file with the new passphrase; else {NEW_PASSPHRASE_VARIABLE}, else a prompt.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@dataclass(frozen=True, slots=True)
class Access:
    """A repository that is opened only if something in it is named."""

    url: str | None
    passphrase_file: Path | None
    key_file: Path | None

    def opened(self) -> AbstractContextManager[Repository]:
        """Open it; see ``opened``."""
        if self.url is None:
            raise UsageError(
                "a recovery point is named, but no repository", hint="Give --repo, or set STILLFRAME_REPO."
            )
        return opened(self.url, self.passphrase_file, self.key_file)


@contextmanager
def opened_storage(url: str) -> Iterator[Storage]:
    """The storage behind ``--repo``, without any key."""
    from stillframe.repository.storage.open import open_storage

    storage = open_storage(url)
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def opened(url: str, passphrase_file: Path | None, key_file: Path | None) -> Iterator[Repository]:
    """The repository behind ``--repo``, opened with what the user has for it.

    Raises:
        UsageError: there is no repository, or nothing to open it with.
        WrongKeyError: it does not open.
    """
    credential = _credential(passphrase_file, key_file)
    with opened_storage(url) as storage:
        yield _opened_by_credential(storage, *credential) if credential else _opened(storage, passphrase_file)


def _opened(storage: Storage, passphrase_file: Path | None) -> Repository:
    from stillframe.repository.config import read_config
    from stillframe.repository.unlocking import load_config, unlock_meanwhile

    config = read_config(load_config(storage))
    bundle = unlock_meanwhile(storage, config, passphrase(passphrase_file))
    from stillframe.repository.repository import open_repository

    return open_repository(storage, lambda _: bundle.result())


def _opened_by_credential(storage: Storage, credential: WriterCredential, origin: str) -> Repository:
    from stillframe.repository.repository import open_repository

    def unlock(config: Config) -> Bundle:
        return credential.bundle_for(config, origin)

    return open_repository(storage, unlock)


def _credential(passphrase_file: Path | None, key_file: Path | None) -> tuple[WriterCredential, str] | None:
    """The writer credential, if that is what the user means; a passphrase opens more and goes first."""
    if key_file and passphrase_file:
        raise UsageError("--passphrase-file and --key-file exclude each other")
    if key_file is None and passphrase_file is None and PASSPHRASE_VARIABLE not in os.environ:
        key_file = Path(os.environ[KEY_FILE_VARIABLE]) if os.environ.get(KEY_FILE_VARIABLE) else None
    if key_file is None:
        return None
    from stillframe.repository.credential import WriterCredential

    return WriterCredential.from_bytes(_read(key_file, "the credential"), str(key_file)), str(key_file)


def passphrase(file: Path | None) -> str:
    """The secret that unlocks: a passphrase or a recovery key.

    Raises:
        UsageError: there is none, and nobody to ask.
    """
    given = _given(file, PASSPHRASE_VARIABLE)
    return given if given is not None else _ask("Passphrase: ", "--passphrase-file", PASSPHRASE_VARIABLE)


def new_passphrase(file: Path | None, variable: str, option: str) -> str:
    """A passphrase to be: asked for twice, never empty."""
    given = _given(file, variable)
    if given is not None:
        return given
    first = _ask("New passphrase: ", option, variable)
    if _ask("The same again: ", option, variable) != first:
        raise UsageError("the two are not the same; nothing was changed")
    return _checked(first, "the passphrase")


def _given(file: Path | None, variable: str) -> str | None:
    if file is not None:
        text = os.fsdecode(_read(file, "the passphrase"))
        return _checked(text.removesuffix("\n").removesuffix("\r"), str(file))
    if variable in os.environ:
        return _checked(os.environ[variable], variable)
    return None


def _checked(text: str, origin: str) -> str:
    if not text:
        raise UsageError(f"{origin}: is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{origin}: is not UTF-8 text") from None
    return text


def _ask(prompt: str, option: str, variable: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            "a passphrase is needed, and there is no terminal to ask on",
            hint=f"Give {option} FILE, or set {variable}.",
        )
    from getpass import getpass

    return getpass(prompt)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {what} cannot be read: {error.strerror}") from error
