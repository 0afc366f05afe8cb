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

_MAIN = "from stillframe.cli.main import main; main()"


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


def spawn(shell: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line in a shell, with redirections that only a shell can make."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$@" {shell}', sys.executable, _MAIN, *words],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_results_that_cannot_be_written_are_one_line_and_an_exit_code(
    tmp_path: Path, unbuffered: str
) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(4096))
    done = spawn(">/dev/full", "disk", "info", str(tmp_path / "disk.raw"), PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.endswith("No space left on device\n")
    assert len(done.stderr.splitlines()) == 1


def test_streams_may_be_closed(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(4096))
    source, target = tmp_path / "disk.raw", tmp_path / "copy.vhdx"
    done = spawn("<&- >&- 2>&-", "disk", "convert", str(source), str(target))
    assert done.returncode == 0
    assert target.read_bytes().startswith(b"vhdxfile")


def test_a_name_that_the_locale_cannot_write_is_escaped(tmp_path: Path) -> None:
    disk = tmp_path / "w\u00e9b.raw"
    disk.write_bytes(bytes(4096))
    done = spawn("", "disk", "info", str(disk), PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 0
    assert "w\\xe9b.raw" in done.stdout
