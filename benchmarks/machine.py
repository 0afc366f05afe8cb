"""What a figure is worth nothing without: the machine, its load, the system, the versions, the command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.contestants import Contestant


def facts(folder: Path, contestants: Sequence[Contestant]) -> dict[str, str]:
    """Name and value of all that describes a run in ``folder``."""
    cores = os.sched_getaffinity(0)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m", _program(), *sys.argv[1:]]),
        "source": _revision(),
        "processor": f"{_field('/proc/cpuinfo', 'model name')}, {len(cores)} cores",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.1f} GiB",
        "file system": _file_system(folder),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "kernel": platform.release(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "Python": platform.python_version(),
        **{each.name: f"{each.version()} ({each.settings()})" for each in contestants},
    }


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text(encoding="ascii", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _file_system(folder: Path) -> str:
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _revision() -> str:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.stdout.strip() or "not a git checkout"


def _program() -> str:
    path = Path(sys.argv[0])
    return "benchmarks" if path.stem == "__main__" else f"benchmarks.{path.stem}"
