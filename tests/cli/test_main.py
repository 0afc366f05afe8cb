"""The entry point: help, mistakes, and how little a small command imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stillframe.cli import main as command_line
from stillframe.cli.on_demand import COMMANDS
from stillframe.repository.repository import create_repository
from stillframe.repository.storage.open import open_storage


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["stillframe", *words])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    return caught.value.code


def test_help_lists_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    told = capsys.readouterr().out
    assert all(f" {name} " in told for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(monkeypatch, name, "--help") == 0
    assert f"stillframe {name}" in capsys.readouterr().out


def test_a_mistyped_command_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pionts") == 2
    assert "'points'" in capsys.readouterr().err


def test_listing_points_imports_neither_arrays_nor_decoration(tmp_path: Path) -> None:
    """They take as long to import as all else together; so a list of points starts at once."""
    storage = open_storage(str(tmp_path / "repository"), create=True)
    create_repository(storage, "secret")
    storage.close()
    program = (
        "import sys\n"
        "from stillframe.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "points", "--repo", str(tmp_path / "repository")],
        env={"STILLFRAME_PASSPHRASE": "secret"},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(done.stderr.split())
    assert "stillframe" in imported
    assert not imported & {"numpy", "rich", "pydantic", "asyncio"}
