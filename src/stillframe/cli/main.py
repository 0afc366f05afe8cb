"""The entry point: collects the commands and turns errors into one line and an exit code."""

from __future__ import annotations

import sys

import typer

from stillframe.cli.on_demand import OnDemand
from stillframe.cli.output import drop_results, flush_results, prepare_streams, warn
from stillframe.errors import StillframeError

INTERRUPTED = 130

app = typer.Typer(
    name="stillframe",
    cls=OnDemand,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # paragraphs of help are wrapped to the terminal
)


@app.callback()
def stillframe() -> None:
    """Protect virtual machines: forever incremental, encrypted, any moment comes back."""


def main() -> None:
    """Run the command line; every expected error ends as one clear line on standard error."""
    prepare_streams()
    try:
        _run()
    except StillframeError as error:
        warn(str(error), hint=error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say_interrupted()
        sys.exit(INTERRUPTED)
    except OSError as error:  # no room expects it: above all, results that cannot be written
        drop_results()
        warn(f"{error.filename or 'standard output, or a file not known'}: {error.strerror or error}")
        sys.exit(StillframeError.exit_code)


def _run() -> None:
    try:
        app()
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:  # typer has met the interrupt, and says nothing
            _say_interrupted()
        flush_results()
        raise


def _say_interrupted() -> None:
    warn("interrupted; what was stored stays, the same command goes on from there")
