"""``python -m benchmarks``: measure, show the tables, say which figures are reached."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks import contestants, machine, report
from benchmarks.contestants import Contestant, Measure
from benchmarks.measured import CommandFailedError
from benchmarks.results import Results, Sample
from benchmarks.rounds import Source, WrongDiskError, run_round
from benchmarks.scale import CASES, run_case
from benchmarks.targets import OURS, verdicts
from stillframe.cli.sizes import parse_size

SCALE = "scale"
QUICK_SIZE, QUICK_ROUNDS = "128MiB", 1


@dataclass(frozen=True, slots=True)
class Options:
    """What to run."""

    size_bytes: int
    rounds: int
    seed: int
    measures: tuple[Measure, ...]
    scale: bool
    contestants: tuple[Contestant, ...]
    folder: Path
    json: Path | None
    markdown: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 unless a contestant failed (a figure that is missed is no failure)."""
    options = parse(arguments)
    console = Console(stderr=True)
    try:
        results, facts = run(options, console)
    except (CommandFailedError, WrongDiskError, subprocess.CalledProcessError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    tables = report.tables(results, verdicts(results))
    for each in tables:
        report.show(each, report.console())
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, **results.as_json()}, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(report.markdown(facts, tables))
    return 0


def run(options: Options, console: Console) -> tuple[Results, dict[str, str]]:
    """Measure in a new folder, which is removed at the end."""
    options.folder.mkdir(parents=True)
    try:
        facts = machine.facts(options.folder, options.contestants)
        results = Results()
        for name in CASES if options.scale else ():
            console.print(f"scale: {name}")
            results.figures += run_case(name, options.folder / name)
            shutil.rmtree(options.folder / name)
        if options.measures:
            _run_rounds(options, results, console)
        return results, facts
    finally:
        shutil.rmtree(options.folder)


def _run_rounds(options: Options, results: Results, console: Console) -> None:
    console.print(f"generating a disk of {options.size_bytes >> 20} MiB")
    source = Source.create(options.folder / "source", options.size_bytes, options.seed)
    for number in range(1, options.rounds + 1):
        console.print(f"round {number} of {options.rounds}")
        folder = options.folder / f"round-{number}"
        run_round(
            number,
            options.contestants,
            source,
            folder,
            options.measures,
            results,
            lambda sample: _tell(sample, console),
        )


def _tell(sample: Sample, console: Console) -> None:
    console.print(
        f"  {sample.measure:<10} {sample.contestant:<11} {sample.taken.wall_s:7.2f} s", highlight=False
    )


def parse(arguments: Sequence[str] | None) -> Options:
    """The options of a command line."""
    given = _parser().parse_args(arguments)
    size = given.size or (QUICK_SIZE if given.quick else "2GiB")
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else 5)
    return Options(
        size_bytes=parse_size(size),
        rounds=rounds,
        seed=given.seed,
        measures=tuple(each for each in Measure if each in given.only),
        scale=SCALE in given.only and OURS in given.tools,
        contestants=tuple(each for each in contestants.ALL if each.name in given.tools),
        folder=given.folder.absolute(),
        json=given.json,
        markdown=given.markdown,
    )


def _parser() -> argparse.ArgumentParser:
    names = [each.name for each in contestants.ALL]
    parts = [*(each.value for each in Measure), SCALE]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help=f"a disk of {QUICK_SIZE}, {QUICK_ROUNDS} round: does it work?")
    add("--size", help="size of the disk (2GiB)")
    add("--rounds", type=int, help="how often each measure is taken; medians are shown (5)")
    add("--seed", type=int, default=1, help="another seed, another disk (1)")
    add("--only", type=_names_of(parts), default=parts, metavar="PART,...", help=", ".join(parts))
    add("--tools", type=_names_of(names), default=names, metavar="TOOL,...", help=", ".join(names))
    add("--folder", type=Path, default=Path(".build/benchmarks"), help="new folder to work in, removed after")
    add("--json", type=Path, metavar="FILE", help="write all samples there")
    add("--markdown", type=Path, metavar="FILE", help="write the tables there, for docs/benchmarks.md")
    return parser


def _names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A reader of names joined by commas."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return names

    return read


if __name__ == "__main__":
    sys.exit(main())
