"""What all commands share to speak: plain lines and tables, JSON, and a progress bar on a terminal.

Standard output carries results only; progress goes to standard error, and only where a person looks.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stillframe.progress import NoProgress, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def prepare_streams() -> None:
    """Make standard output and error fit for any name, and there at all.

    A closed descriptor is opened on nothing: the next file that is opened would get its number otherwise, and
    whatever writes to standard error would write into that file.
    """
    for descriptor in (0, 1, 2):
        _open_if_closed(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for good)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the locale cannot write is escaped


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def flush_results() -> None:
    """Write out what was printed, while an error can still be told.

    Raises:
        OSError: it cannot be written, for example to a full file system.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_results()  # the reader had enough


def drop_results() -> None:
    """Let what is not written yet go nowhere: the interpreter would fail on it again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def printable(text: str) -> str:
    """``text`` with control characters escaped: names out of a disk must not drive the terminal."""
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    # A name that is not UTF-8 holds lone surrogates, which standard output refuses to encode.
    return character.encode("unicode_escape").decode("ascii")


def print_json(value: object) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2))


def print_json_list(values: Iterable[object]) -> None:
    """Print a JSON list one element a line, without holding it in memory."""
    print("[", end="")
    separator = "\n"
    for value in values:
        print(separator + json.dumps(value), end="")
        separator = ",\n"
    print("\n]")


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print ``name  value`` lines with the values in one column; a name may come several times."""
    pairs = list(fields)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {printable(value)}".rstrip())


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print aligned columns under their headers; the columns whose numbers are in ``right`` end flush."""
    lines = [list(headers), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        cells = (
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Progress]:
    """A bar per stage on standard error while the block runs; nothing where no terminal is."""
    if quiet or not sys.stderr.isatty():
        yield NoProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars)


class _Bars:
    """``stillframe.progress.Progress`` as one rich task per stage."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._current: TaskID | None = None

    def begin(self, description: str, total_bytes: int | None) -> None:
        if self._current is not None:
            self._bars.stop_task(self._current)
        self._current = self._bars.add_task(printable(description), total=total_bytes)

    def advance(self, done_bytes: int) -> None:
        if self._current is not None:
            self._bars.advance(self._current, done_bytes)


def warn(message: str, *, hint: str = "") -> None:
    """One line on standard error, and a second for what to do about it."""
    print(f"stillframe: {printable(message)}", file=sys.stderr)
    if hint:
        print(f"  {printable(hint)}", file=sys.stderr)
