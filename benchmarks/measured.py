"""One command, measured: wall clock with the sync that follows, processor time, peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launch.py")
_LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Taken:
    """What a command took.

    ``wall_s`` includes ``sync_s``, the sync of the file system after it. ``cpu_s`` is that of the command and
    the processes it waited for. ``memory_bytes`` is the largest resident set of any *one* of those.
    """

    wall_s: float
    sync_s: float
    cpu_s: float
    memory_bytes: int


class CommandFailedError(Exception):
    """A measured command, or one that prepares for it, ended badly."""


def measure(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Taken:
    """Run a command in ``folder``, whose file system is synced after it.

    Raises:
        CommandFailedError: it ended with anything but 0; says what it wrote last.
    """
    report, log = folder / ".taken.json", folder / ".log"
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(folder), str(report), *command]
    with open(log, "wb") as output:
        ended = subprocess.run(
            launcher,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    written = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    taken = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    report.unlink(missing_ok=True)
    exit_code = taken.pop("exit_code", ended.returncode)
    if exit_code != 0 or not taken:
        last = "\n".join(written.splitlines()[-_LAST_LINES:])
        raise CommandFailedError(f"{' '.join(command)}\nended with {exit_code}:\n{last}")
    return Taken(**taken)
