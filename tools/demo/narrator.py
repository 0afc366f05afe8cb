"""How the demo speaks: headings, the commands as a user would type them, and bars where a person looks."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from tools.demo import programs
from tools.demo.errors import DemoError

_TICK_S = 0.05


class Narrator:
    """Tells the story on standard output and runs its commands in the demo's folder."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._console = Console(highlight=False)
        self._folder = folder
        path = f"{programs.OWN_FOLDER}{os.pathsep}{os.environ.get('PATH', '')}"
        unset = ("STILLFRAME_KEY_FILE", "STILLFRAME_NEW_PASSPHRASE")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        self._environment = {**kept, "PATH": path, **settings}

    def chapter(self, title: str) -> None:
        self._console.print()
        self._console.print(title, style="bold cyan", markup=False, soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def good(self, text: str) -> None:
        """Something that was checked and holds."""
        self.say(f"✓ {text}", "green")

    def table(self, table: Table) -> None:
        self._console.print(table)

    def run(self, *command: str) -> float:
        """Print a command, run it before the user's eyes, and give back the seconds it took.

        Raises:
            DemoError: it failed.
        """
        self.say(f"$ {shlex.join(command)}", "bold")
        start_s = time.perf_counter()
        done = subprocess.run(command, cwd=self._folder, env=self._environment, check=False)
        if done.returncode:
            raise DemoError(f"{shlex.join(command)}: failed with {done.returncode}")
        return time.perf_counter() - start_s

    def ask(self, *command: str) -> Any:
        """What a command answers with ``--json``, without a word."""
        done = subprocess.run(
            [*command, "--json"], cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, check=False
        )
        if done.returncode:
            raise DemoError(f"{shlex.join(command)}: failed with {done.returncode}")
        return json.loads(done.stdout)

    @contextmanager
    def busy(self, description: str) -> Iterator[None]:
        """Work of unknown length: a bar that runs to and fro, or one line where no terminal is."""
        with self._bars(description) as bars:
            bars.add_task(description, total=None)
            yield

    def wait(self, description: str, seconds: float, done: Callable[[], str]) -> None:
        """Let others work for a while; ``done`` says how far they are."""
        with self._bars(description) as bars:
            task = bars.add_task(description, total=seconds)
            end_s = time.monotonic() + seconds
            while (left_s := end_s - time.monotonic()) > 0:
                time.sleep(min(_TICK_S, left_s))
                bars.update(task, completed=seconds - left_s, description=f"{description}: {done()}")
            bars.update(task, completed=seconds)
        self.say(f"{description}: {done()}")

    def _bars(self, description: str) -> Progress:
        if not self._console.is_terminal:
            self.say(f"{description} ...")
        columns = (TextColumn("{task.description}", markup=False), BarColumn())
        return Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
