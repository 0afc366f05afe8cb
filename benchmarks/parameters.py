"""``python -m benchmarks.parameters``: block size, codec level, pack size and fan-out, each measured.

Times are medians of rounds that go through all settings in turn, on the generated disk in the page cache,
with all of it durable at the end. The bare pipeline leaves out what does not depend on these settings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks import fan_out, machine, report
from benchmarks.generator import generate
from benchmarks.pipeline import Outcome, Settings, run
from benchmarks.report import Rows
from benchmarks.rounds import read_all
from stillframe.cli.sizes import format_size, parse_size

KIB, MIB, TIB = 1 << 10, 1 << 20, 1 << 40
BLOCKS_BYTES = (256 * KIB, 512 * KIB, 1 * MIB, 2 * MIB, 4 * MIB)
LEVELS = (-5, -3, -1, 1, 3)
PACKS_BYTES = (8 * MIB, 16 * MIB, 32 * MIB, 64 * MIB)
FAN_OUTS = (16, 32, 64, 128, 256)
STAGES = ("read", "zero test", "hash", "compress", "encrypt", "decode", "hash pack", "write", "of that, sync")
SCATTERED = 64
FULL_DISK_BYTES = 10 * TIB

Outcomes = dict[Settings, list[Outcome]]


def measure(
    image: Path, folder: Path, settings: Iterable[Settings], rounds: int, console: Console
) -> Outcomes:
    """Take every setting once a round."""
    outcomes: Outcomes = {each: [] for each in settings}
    for number in range(1, rounds + 1):
        for each, taken in outcomes.items():
            console.print(f"round {number} of {rounds}: {each}", highlight=False)
            read_all(image)
            folder.mkdir()
            subprocess.run(["sync", "-f", str(folder)], check=True)
            taken.append(run(image, folder, each))
            shutil.rmtree(folder)
    return outcomes


def settings_to_measure(block_bytes: int, level: int, pack_bytes: int) -> list[Settings]:
    """All blocks with all levels; all packs, and trials of all levels, with the block and level given."""
    grid = [Settings(block, each, pack_bytes) for block in BLOCKS_BYTES for each in LEVELS]
    packs = [Settings(block_bytes, level, pack) for pack in PACKS_BYTES]
    trials = [Settings(block_bytes, each, pack_bytes, trial=True) for each in LEVELS]
    return list(dict.fromkeys([*grid, *packs, *trials]))


def seconds(outcomes: Outcomes, settings: Settings) -> float:
    """Median wall clock time."""
    return median(each.wall_s for each in outcomes[settings])


def tables(outcomes: Outcomes, chosen: Settings, disk_bytes: int) -> list[Rows]:
    """What to choose from."""
    pack_bytes = chosen.pack_bytes

    def speed(settings: Settings) -> str:
        return f"{disk_bytes / MIB / seconds(outcomes, settings):.0f}"

    def stored(settings: Settings) -> str:
        return f"{outcomes[settings][0].stored_bytes / disk_bytes:.3f}"

    heads = ("block", *(f"zstd {level}" for level in LEVELS))
    grid = [[Settings(block, level, pack_bytes) for level in LEVELS] for block in BLOCKS_BYTES]
    named = [(format_size(block), row) for block, row in zip(BLOCKS_BYTES, grid, strict=True)]
    return [
        Rows("MiB/s of the disk", heads, tuple((name, *map(speed, row)) for name, row in named)),
        Rows("Stored, share of the disk", heads, tuple((name, *map(stored, row)) for name, row in named)),
        _trials(outcomes, chosen, disk_bytes),
        _packs(outcomes, chosen, disk_bytes),
        _stages(outcomes, chosen),
        _fan_outs(),
    ]


def _trials(outcomes: Outcomes, chosen: Settings, disk_bytes: int) -> Rows:
    def cell(level: int, *, trial: bool) -> str:
        settings = Settings(chosen.block_bytes, level, chosen.pack_bytes, trial=trial)
        share = outcomes[settings][0].stored_bytes / disk_bytes
        return f"{disk_bytes / MIB / seconds(outcomes, settings):.0f} ({share:.3f})"

    rows = tuple(
        (name, *(cell(level, trial=trial) for level in LEVELS))
        for name, trial in (("every block compressed", False), ("after a trial of 64 KiB", True))
    )
    title = f"MiB/s (share stored), blocks of {format_size(chosen.block_bytes)}"
    return Rows(title, ("compression", *(f"zstd {level}" for level in LEVELS)), rows)


def _packs(outcomes: Outcomes, chosen: Settings, disk_bytes: int) -> Rows:
    same = [Settings(chosen.block_bytes, chosen.level, pack_bytes) for pack_bytes in PACKS_BYTES]
    rows = tuple(
        (
            format_size(each.pack_bytes),
            f"{disk_bytes / MIB / seconds(outcomes, each):.0f}",
            str(outcomes[each][0].packs),
        )
        for each in same
    )
    return Rows(f"Packs, with {_name(chosen)}", ("pack", "MiB/s", "packs"), rows)


def _stages(outcomes: Outcomes, chosen: Settings) -> Rows:
    """Where the time goes, by block size, at the level chosen."""
    columns = [Settings(block, chosen.level, chosen.pack_bytes) for block in BLOCKS_BYTES]
    rows = tuple(
        (stage, *(f"{median(taken.stages_s[stage] for taken in outcomes[each]):.2f}" for each in columns))
        for stage in STAGES
    )
    heads = ("stage", *(format_size(each.block_bytes) for each in columns))
    return Rows(f"Seconds of all threads together, zstd {chosen.level}", heads, rows)


def _fan_outs() -> Rows:
    rows = tuple(
        (format_size(block), *(_fan_out_cell(block, each) for each in FAN_OUTS)) for block in BLOCKS_BYTES
    )
    title = "64 scattered changes of 64 KiB on a full 10 TiB disk: metadata written (height; whole tree)"
    return Rows(title, ("block", *(f"fan-out {each}" for each in FAN_OUTS)), rows)


def _fan_out_cell(block_bytes: int, width: int) -> str:
    taken = fan_out.cost(FULL_DISK_BYTES, block_bytes, width, SCATTERED, seed=1)
    return f"{taken.written_bytes / KIB:.0f} KiB ({taken.height}; {taken.tree_bytes / MIB:.0f} MiB)"


def _name(settings: Settings) -> str:
    return f"blocks of {format_size(settings.block_bytes)}, zstd {settings.level}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show the tables, write them where asked."""
    given = _parser().parse_args(arguments)
    chosen = Settings(parse_size(given.block_size), given.level, parse_size(given.pack_size))
    size_bytes = parse_size(given.size)
    given.folder.mkdir(parents=True)
    try:
        facts = machine.facts(given.folder, [])
        image = given.folder / "disk.raw"
        generate(image, size_bytes, given.seed)
        wanted = settings_to_measure(chosen.block_bytes, chosen.level, chosen.pack_bytes)
        outcomes = measure(image, given.folder / "packs", wanted, given.rounds, Console(stderr=True))
    finally:
        shutil.rmtree(given.folder)
    all_rows = tables(outcomes, chosen, size_bytes)
    for each in all_rows:
        report.show(each, report.console())
    if given.json:
        given.json.write_text(json.dumps({"machine": facts, "outcomes": _as_json(outcomes)}, indent=2) + "\n")
    if given.markdown:
        given.markdown.write_text(report.markdown(facts, all_rows))
    return 0


def _as_json(outcomes: Outcomes) -> list[dict[str, Any]]:
    return [{**asdict(key), "rounds": [asdict(each) for each in taken]} for key, taken in outcomes.items()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parameters", description=__doc__)
    add = parser.add_argument
    add("--size", default="2GiB", help="size of the disk (2GiB)")
    add("--rounds", type=int, default=3, help="how often each setting is taken (3)")
    add("--seed", type=int, default=1, help="another seed, another disk (1)")
    add("--block-size", default="1MiB", help="block size for the table of packs (1MiB)")
    add("--level", type=int, default=1, choices=LEVELS, help="zstd level for packs and stages (1)")
    add("--pack-size", default="16MiB", help="pack size for the other tables (16MiB)")
    add("--folder", type=Path, default=Path(".build/parameters"), help="new folder to work in, removed after")
    add("--json", type=Path, metavar="FILE", help="write all outcomes there")
    add("--markdown", type=Path, metavar="FILE", help="write the tables there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
