"""Figures at sizes that no test disk has: repositories made synthetically, by calling the code directly.

A case is a function that builds what it needs in a folder of its own and returns its figures. It runs in a
process of its own (``python -m benchmarks.scale CASE FOLDER``), so that its memory is its own.
``CASES`` lists them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, in the unit that its name ends with (``..._s``, ``..._bytes``)."""

    name: str
    value: float


Case = Callable[[Path], list[Figure]]

CASES: Mapping[str, Case] = {}


def run_case(name: str, folder: Path) -> list[Figure]:
    """The figures of one case, run in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; what it wrote went to standard error.
    """
    command = [sys.executable, "-m", "benchmarks.scale", name, str(folder)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Figure(**each) for each in json.loads(ended.stdout)]


def main() -> None:
    """``python -m benchmarks.scale CASE FOLDER``: print the figures of a case as JSON."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps([asdict(each) for each in CASES[name](folder)]))


if __name__ == "__main__":
    main()
