"""Checking, collecting, repairing: on repositories that are whole, and on damaged ones."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.cli.repository.conftest import MIB, Run, write_disk


@pytest.fixture
def backed_up(run: Run, tmp_path: Path) -> Path:
    """A disk of noise, protected."""
    disk = write_disk(tmp_path / "noise.raw", {0: random.Random(7).randbytes(MIB)})
    assert run("backup", "image", disk, "--machine", "web").code == 0
    return disk


def only(repository: Path, folder: str) -> list[Path]:
    return sorted(
        path for path in (repository / folder).rglob("*") if path.is_file() and len(path.name) == 64
    )


def flip(path: Path, offset: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def largest(repository: Path) -> Path:
    return max(only(repository, "data"), key=lambda path: path.stat().st_size)


def test_a_whole_repository_checks_in_all_ways(run: Run, backed_up: Path, repository: Path) -> None:
    for options in ((), ("--read-data",), ("--no-key",)):
        told = run("repo", "check", *options)
        assert told.code == 0
        assert "all is well" in told.out
        report = run("repo", "check", *options, "--json").json
        assert report["good"] is True
        assert set(report) == {
            "good",
            "problems",
            "affected",
            "entries",
            "points",
            "packs",
            "blobs",
            "read_bytes",
        }


def test_no_key_needs_none(
    run: Run, backed_up: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STILLFRAME_PASSPHRASE")
    assert run("repo", "check", "--no-key").code == 0
    flip(largest(repository), 5000)
    assert run("repo", "check", "--no-key").code == 1
    assert run("repo", "check", "--no-key", "--read-data").code == 2


def test_damage_names_points_disks_and_ranges(run: Run, backed_up: Path, repository: Path) -> None:
    flip(largest(repository), 5000)
    assert run("repo", "check").code == 0  # presence and size only: the data was not read
    told = run("repo", "check", "--read-data", "--json")
    assert told.code == 1
    point = run("points", "--json").json[0]["id"]
    (affected,) = told.json["affected"]
    assert (affected["point"], affected["machine"], affected["disk"]) == (point, "web", "noise.raw")
    assert len(affected["ranges"]) == 1
    assert affected["ranges"][0][1] == 65536
    words = run("repo", "check", "--read-data")
    assert f"touched: point {point} of web, noise.raw: " in words.out
    assert words.err == ""


def test_a_damaged_log_is_a_finding_of_the_check(run: Run, backed_up: Path, repository: Path) -> None:
    entry = next(path for path in (repository / "log").rglob("*") if path.is_file())
    flip(entry, 60)
    told = run("repo", "check", "--json")
    assert told.code == 1
    assert told.json["good"] is False
    assert run("points").code == 4


def test_a_lost_block_comes_back_from_the_image(run: Run, backed_up: Path, repository: Path) -> None:
    flip(largest(repository), 5000)
    planned = run("repo", "repair", "--image", backed_up, "--dry-run", "--json").json
    assert (planned["healed_blobs"], planned["dry_run"]) == (1, True)
    assert run("repo", "check", "--read-data").code == 1
    assert run("repo", "repair", "--image", backed_up).code == 0
    assert run("repo", "check", "--read-data").code == 0


def test_an_image_that_moved_on_helps_not_and_says_so(run: Run, backed_up: Path, repository: Path) -> None:
    flip(largest(repository), 5000)
    backed_up.write_bytes(bytes(2 * MIB))
    told = run("repo", "repair", "--image", backed_up)
    assert told.code == 1
    assert "still lost  1" in told.out


def test_a_mirror_gives_back_what_was_lost(
    run: Run, backed_up: Path, repository: Path, tmp_path: Path
) -> None:
    mirror = shutil.copytree(repository, tmp_path / "mirror")
    largest(repository).unlink()
    flip(only(repository, "index")[0], 100)
    assert run("repo", "check").code == 1
    assert run("repo", "repair", "--mirror", mirror).code in (0, 1)
    assert run("repo", "repair", "--mirror", mirror).code == 0
    assert run("repo", "check", "--read-data").code == 0


def test_a_lost_index_is_made_anew(run: Run, backed_up: Path, repository: Path, tmp_path: Path) -> None:
    for path in only(repository, "index"):
        path.unlink()
    assert run("repo", "check").code == 1
    assert run("repo", "repair", "--index").code == 0
    assert run("repo", "check", "--read-data").code == 0
    assert run("restore", "disk", "web@latest", "noise.raw", tmp_path / "out.raw").code == 0
    assert (tmp_path / "out.raw").read_bytes() == backed_up.read_bytes()


@pytest.mark.parametrize("words", [(), ("--index", "--image", "x"), ("--mirror", "/x", "--index")])
def test_repair_needs_one_source(run: Run, words: tuple[str, ...]) -> None:
    refused = run("repo", "repair", *words)
    assert refused.code == 2
    assert "one of them" in refused.err


def test_a_restore_of_damaged_data_leaves_no_file(
    run: Run, backed_up: Path, repository: Path, tmp_path: Path
) -> None:
    flip(largest(repository), 5000)
    refused = run("restore", "disk", "web@latest", "noise.raw", tmp_path / "out.raw")
    assert refused.code == 4
    assert not (tmp_path / "out.raw").exists()


def test_space_comes_back(run: Run, backed_up: Path, repository: Path) -> None:
    write_disk(backed_up, {0: random.Random(8).randbytes(MIB)})
    assert run("backup", "image", backed_up, "--machine", "web").code == 0
    before = run("repo", "info", "--json").json["data_bytes"]
    oldest = run("points", "--json").json[0]["id"]
    assert run("points", "forget", oldest).code == 0
    planned = run("repo", "collect", "--dry-run", "--json").json
    assert planned["dry_run"] is True
    assert planned["freed_bytes"] >= MIB
    assert run("repo", "info", "--json").json["data_bytes"] == before
    assert run("repo", "collect").code == 0
    assert run("repo", "info", "--json").json["data_bytes"] <= before - MIB
    assert run("repo", "check", "--read-data").code == 0


def test_info_counts(run: Run, backed_up: Path, repository: Path) -> None:
    told = run("repo", "info", "--json").json
    assert told["repository"] == str(repository)
    assert (told["points"], told["machines"], told["log_entries"]) == (1, ["web"], 1)
    assert told["data_bytes"] >= MIB
    assert (told["can_read"], told["block_bytes"]) == (True, 65536)
    assert "web" in run("repo", "info").out
