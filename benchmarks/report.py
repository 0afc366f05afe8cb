"""The tables: once as rows of text, shown on a terminal by rich and as Markdown for the documentation."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.contestants import Measure
from benchmarks.results import Results
from benchmarks.targets import OURS, Target, Verdict
from stillframe.cli.sizes import format_size

TITLES = {
    Measure.FIRST: "first backup",
    Measure.UNCHANGED: "unchanged, read again",
    Measure.CHANGED: "1 % changed",
    Measure.RESTORE: "restore the disk",
    Measure.CHECK: "check, all data read",
    Measure.START: "start: list the points",
}
NOTHING = "-"
_PLAIN_WIDTH = 150
Cell = Callable[[Results, str, Measure], str]
_STYLES = {"met": "green", "missed": "bold red", "not measured": "yellow"}


@dataclass(frozen=True, slots=True)
class Rows:
    """A table as text: a title, the heads of the columns, the rows."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(results: Results, verdicts: Sequence[Verdict]) -> list[Rows]:
    """All tables of a run that have anything in them."""
    names = tuple(dict.fromkeys(each.contestant for each in results.samples))
    every = [
        _by_measure("Seconds, median (least to most)", names, results, _seconds),
        _by_measure("Processor seconds, median", names, results, _processor),
        _by_measure("Peak memory of the largest process", names, results, _memory),
        _sizes(names, results),
        _targets(verdicts),
    ]
    return [each for each in every if each.rows]


def _by_measure(title: str, names: tuple[str, ...], results: Results, cell: Cell) -> Rows:
    rows = ((TITLES[each], *(cell(results, name, each) for name in names)) for each in Measure)
    return Rows(title, ("measure", *names), tuple(row for row in rows if _says_something(row)))


def _says_something(row: tuple[str, ...]) -> bool:
    return any(cell != NOTHING for cell in row[1:])


def _seconds(results: Results, name: str, measure: Measure) -> str:
    middle = results.wall_s(name, measure)
    if middle is None:
        return NOTHING
    walls = [each.taken.wall_s for each in results.of(name, measure)]
    return f"{middle:.2f}" if len(walls) == 1 else f"{middle:.2f} ({min(walls):.2f} to {max(walls):.2f})"


def _processor(results: Results, name: str, measure: Measure) -> str:
    seconds = results.cpu_s(name, measure)
    return NOTHING if seconds is None else f"{seconds:.2f}"


def _memory(results: Results, name: str, measure: Measure) -> str:
    peak = results.memory_bytes(name, measure)
    return NOTHING if peak is None else format_size(peak)


def _sizes(names: tuple[str, ...], results: Results) -> Rows:
    rows = (
        (f"after {TITLES[measure]}", *(_size(results.stored_bytes(name, measure)) for name in names))
        for measure in (Measure.FIRST, Measure.UNCHANGED, Measure.CHANGED)
    )
    heads = ("measure", *names)
    return Rows("Repository on the disk, median", heads, tuple(row for row in rows if _says_something(row)))


def _size(size_bytes: float | None) -> str:
    return NOTHING if size_bytes is None else format_size(round(size_bytes))


def _targets(verdicts: Sequence[Verdict]) -> Rows:
    rows = tuple(
        (
            each.target.title,
            _amount(each.target, each.ours),
            _amount(each.target, each.reached),
            _limit(each.target),
            each.word,
        )
        for each in verdicts
    )
    return Rows("Figures to reach", ("figure", OURS, "reached", "at most", "verdict"), rows)


def _limit(target: Target) -> str:
    if target.beside:
        return f"{target.at_most:g} x {target.beside}"
    return _amount(target, target.at_most)


def _amount(target: Target, value: float | None) -> str:
    if value is None:
        return NOTHING
    return format_size(round(value)) if target.unit == "bytes" else f"{value:.2f} {target.unit}".strip()


def console() -> Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


def show(rows: Rows, console: Console) -> None:
    """Print a table on a terminal."""
    table = Table(*rows.heads, title=rows.title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows.rows:
        table.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    console.print(table)


def markdown(facts: Mapping[str, str], all_rows: Sequence[Rows]) -> str:
    """The run as a block of Markdown."""
    described = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return "\n\n".join([described, *(_markdown_table(each) for each in all_rows)]) + "\n"


def _markdown_table(rows: Rows) -> str:
    lines = [rows.heads, ("---", *["---:"] * (len(rows.heads) - 1)), *rows.rows]
    return "\n".join([f"**{rows.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])
