"""A repository as its user meets it: by the command line, with real files."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stillframe.cli import main as command_line
from stillframe.repository import slots
from stillframe.repository.repository import create_repository
from stillframe.repository.storage.open import open_storage

PASSPHRASE = "correct horse"
MIB = 1 << 20


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


def make_slots_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)
    monkeypatch.setattr(slots, "_ITERATIONS", 1)


@pytest.fixture(autouse=True)
def _quick_and_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots that derive in a millisecond, and nothing from the developer's own environment."""
    make_slots_quick(monkeypatch)
    for name in ("REPO", "PASSPHRASE", "NEW_PASSPHRASE", "KEY_FILE"):
        monkeypatch.delenv(f"STILLFRAME_{name}", raising=False)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``stillframe`` with these arguments, in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["stillframe", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        out, err = capsys.readouterr()
        return Outcome(caught.value.code if isinstance(caught.value.code, int) else 0, out, err)

    return run


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new repository with blocks of 64 KiB, to be copied by the tests."""
    path = tmp_path_factory.mktemp("made") / "repository"
    storage = open_storage(str(path), create=True)
    with pytest.MonkeyPatch.context() as patched:
        make_slots_quick(patched)
        create_repository(storage, PASSPHRASE, block_bytes=64 << 10)
    storage.close()
    return path


@pytest.fixture
def repository(tmp_path: Path, made_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of this test's own; the environment names it and opens it."""
    path = shutil.copytree(made_once, tmp_path / "repository")
    monkeypatch.setenv("STILLFRAME_REPO", str(path))
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", PASSPHRASE)
    return path


@pytest.fixture
def run(bare: Run, repository: Path) -> Run:
    return bare


def write_disk(path: Path, contents: dict[int, bytes], size_bytes: int = 2 * MIB) -> Path:
    """A raw disk with these bytes at these offsets; an existing one is changed."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(size_bytes)
        for offset, data in contents.items():
            file.seek(offset)
            file.write(data)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "system.raw", {0: b"A" * 4096, MIB: bytes(range(256)) * 1024})
