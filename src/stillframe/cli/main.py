"""The entry point: collects the commands and turns errors into one line and an exit code."""

from __future__ import annotations

import sys

import typer

from stillframe.cli import disk, files
from stillframe.errors import StillframeError

app = typer.Typer(
    name="stillframe",
    help="Protect virtual machines: forever incremental, encrypted, any moment comes back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(disk.app, name="disk")
app.add_typer(files.app, name="files")


def main() -> None:
    """Run the command line; every expected error ends as one clear line on standard error."""
    try:
        app()
    except StillframeError as error:
        print(f"stillframe: {error}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(
            "stillframe: interrupted; what was stored stays, the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(130)
