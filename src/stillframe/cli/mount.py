"""``stillframe mount``: disks as a folder, read-only."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from stillframe.cli.options import Access, KeyFile, OptionalRepo, PassphraseFile
from stillframe.errors import UnsupportedError, UsageError

_START_TIMEOUT_S: Final = 60


def mount_disks(
    spec: Annotated[str, typer.Argument(metavar="POINT|FILE", help="What to show.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder.", show_default=False)],
    background: Annotated[bool, typer.Option("--background", help="Return once it is mounted.")] = False,
    guest: Annotated[
        bool, typer.Option("--guest", help="Replay journals in a throw-away virtual machine before reading.")
    ] = False,
    host_kernel: Annotated[
        bool,
        typer.Option(
            "--host-kernel", help="Read with this machine's kernel (root); only disks that you trust."
        ),
    ] = False,
    repo: OptionalRepo = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
) -> None:
    """Show disks as DIR/DISK.raw and DIR/DISK/VOLUME/..., read-only, until interrupted or unmounted."""
    _require_free(folder)
    if background and (child := os.fork()):
        _wait_until_mounted(folder, child)
        return
    access = Access(repo, passphrase_file, key_file)
    _serve(spec, folder, access, guest=guest, host_kernel=host_kernel, detach=background)


def _require_free(folder: Path) -> None:
    try:
        is_folder = folder.is_dir()
        is_empty = is_folder and not any(folder.iterdir())
    except OSError as error:  # what a mount whose server died says
        raise UsageError(f"{folder}: {error.strerror}", hint=f"umount {folder}") from error
    if not is_folder:
        raise UsageError(f"{folder}: is no folder", hint="Create it first.")
    if os.path.ismount(folder):
        raise UsageError(f"{folder}: is mounted already", hint=f"umount {folder}")
    if not is_empty:
        raise UsageError(
            f"{folder}: is not empty", hint="Mount on an empty folder: what is in it would be hidden."
        )


def _serve(spec: str, folder: Path, access: Access, *, guest: bool, host_kernel: bool, detach: bool) -> None:
    from stillframe.cli.file_session import FileSession
    from stillframe.cli.output import warn
    from stillframe.recovery.mount import mount

    if detach:
        os.setsid()
    with FileSession(access, guest=guest, host_kernel=host_kernel) as session:
        disks = session.open_disks(spec)
        with suppress(KeyboardInterrupt):  # the usual way to end it
            mount(disks, folder, warn)


def _wait_until_mounted(folder: Path, child: int) -> None:
    """Stay until the child serves, so that the next command finds the files there."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not os.path.ismount(folder):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            raise typer.Exit(os.waitstatus_to_exitcode(status) or 1)
        if time.monotonic() > deadline:
            raise UnsupportedError(f"{folder}: is not mounted after {_START_TIMEOUT_S} s")
        time.sleep(0.02)
