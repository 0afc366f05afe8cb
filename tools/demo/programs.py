"""Foreign programs: finding and running them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tools.demo.errors import DemoError

OWN_FOLDER = Path(sys.executable).parent
"""Where ``stillframe`` is installed."""

_SYSTEM_FOLDERS = "/usr/sbin:/sbin"  # mkfs and friends are not on every user's PATH


def find(program: str) -> str | None:
    """The path of a program, or None."""
    return shutil.which(program) or shutil.which(program, path=f"{OWN_FOLDER}:{_SYSTEM_FOLDERS}")


def run(program: str, *arguments: str | Path, folder: Path | None = None) -> str:
    """Run a program to its end in a folder and give back its standard output.

    Raises:
        DemoError: it is missing, or failed.
    """
    path = find(program)
    if path is None:
        raise DemoError(f"{program} is not installed")
    done = subprocess.run(
        [path, *arguments], cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        reason = (done.stderr or done.stdout).strip()
        raise DemoError(f"{program} failed with {done.returncode}: {reason}")
    return done.stdout
