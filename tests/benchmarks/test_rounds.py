"""The harness itself, with cp and small programs in the place of the real contestants."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from benchmarks.__main__ import main
from benchmarks.contestants import DISK_NAME, Copy, Measure, Place
from benchmarks.measured import CommandFailedError, measure
from benchmarks.results import Results
from benchmarks.rounds import Source, WrongDiskError, run_round, steps

MIB = 1 << 20


def test_a_command_is_measured(tmp_path: Path) -> None:
    program = "import time; block = bytearray(b'x') * (64 << 20); time.sleep(0.2)"
    taken = measure([sys.executable, "-c", program], tmp_path, {})
    assert taken.wall_s >= 0.2 + taken.sync_s
    assert 64 * MIB < taken.memory_bytes < 128 * MIB
    assert 0 < taken.cpu_s < taken.wall_s
    assert list(tmp_path.iterdir()) == []


def test_the_harness_own_memory_is_not_charged(tmp_path: Path) -> None:
    held = bytearray(os.urandom(1)) * (200 * MIB)
    taken = measure(["true"], tmp_path, {})
    assert len(held) > taken.memory_bytes * 4


def test_the_environment_and_the_folder_are_as_asked(tmp_path: Path) -> None:
    measure(["sh", "-c", 'echo "$WORD" > "$PWD/said"'], tmp_path, {"WORD": "hello"})
    assert (tmp_path / "said").read_text() == "hello\n"


@pytest.mark.parametrize("program", ["echo why >&2; exit 3", "echo why; kill -9 $$"])
def test_a_failure_says_why(tmp_path: Path, program: str) -> None:
    with pytest.raises(CommandFailedError, match="why"):
        measure(["sh", "-c", program], tmp_path, {})


def test_a_missing_program_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="no-such-program"):
        measure(["no-such-program"], tmp_path, {})


def test_the_source_shows_one_state_at_a_time(tmp_path: Path) -> None:
    source = Source.create(tmp_path / "source", 4 * MIB, 1)
    base, changed = ((source.folder / name).read_bytes() for name in ("base.raw", "changed.raw"))
    assert base != changed
    for state, expected in ((False, base), (True, changed), (True, changed), (False, base)):
        source.show(changed=state)
        assert source.image.read_bytes() == expected
    assert sorted(each.name for each in source.folder.iterdir()) == [
        "base.raw",
        "changed.raw",
        DISK_NAME,
        "extents.json",
    ]


def test_what_is_wanted_needs_a_first_backup() -> None:
    assert steps([Measure.RESTORE]) == [Measure.FIRST, Measure.RESTORE]
    assert steps([Measure.FIRST]) == [Measure.FIRST]


def test_a_round_measures_what_is_wanted_only(tmp_path: Path) -> None:
    source = Source.create(tmp_path / "source", 4 * MIB, 1)
    results = Results()
    told: list[object] = []
    run_round(1, [Copy()], source, tmp_path / "round", [Measure.RESTORE, Measure.CHECK], results, told.append)
    [sample] = results.samples
    assert (sample.contestant, sample.measure, sample.round) == ("cp", Measure.RESTORE, 1)
    assert 0 < sample.stored_bytes <= 4 * MIB
    assert told == [sample]
    assert not (tmp_path / "round").exists()


@dataclass(frozen=True, slots=True)
class Forgetful(Copy):
    """Restores a disk with one byte wrong."""

    def command(self, measure: Measure, place: Place) -> list[str] | None:
        if measure is not Measure.RESTORE:
            return Copy().command(measure, place)
        spoil = 'cp "$1" "$2" && printf x | dd of="$2" bs=1 seek=70000 conv=notrunc'
        return ["sh", "-c", spoil, "sh", str(place.image), str(place.restored / DISK_NAME)]


def test_a_wrong_disk_ends_the_benchmark(tmp_path: Path) -> None:
    source = Source.create(tmp_path / "source", 4 * MIB, 1)
    with pytest.raises(WrongDiskError, match="cp restored"):
        run_round(1, [Forgetful()], source, tmp_path / "round", list(Measure), Results(), lambda _: None)
    assert not (tmp_path / "round").exists()


def test_the_whole_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--size", "4MiB", "--rounds", "2", "--tools", "cp", "--folder", str(tmp_path / "work")]
    arguments += [
        "--json",
        str(tmp_path / "out.json"),
        "--markdown",
        str(tmp_path / "out.md"),
        "--only",
        "first",
    ]
    assert main(arguments) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert [each["round"] for each in written["samples"]] == [1, 2]
    assert "processor" in written["machine"]
    assert "| first backup |" in (tmp_path / "out.md").read_text()
    assert "Figures to reach" in capsys.readouterr().out
    assert not (tmp_path / "work").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").write_text("mine")
    assert main(["--quick", "--tools", "cp", "--folder", str(tmp_path)]) == 1
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "kept").exists()


def test_names_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--tools", "cp,rsync"])
    assert "rsync: not one of stillframe" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize("tools", ["restic,borg,zstd"])
def test_the_others_take_part(tmp_path: Path, tools: str) -> None:
    for program in ("restic", "borg", "zstd"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; `make bench` installs it")
    out = tmp_path / "out.json"
    arguments = ["--size", "4MiB", "--rounds", "1", "--tools", tools, "--folder", str(tmp_path / "work")]
    assert main([*arguments, "--json", str(out)]) == 0
    taken = {(each["contestant"], each["measure"]) for each in json.loads(out.read_text())["samples"]}
    both = {(name, each.value) for name in ("restic", "borg") for each in Measure}
    assert taken == both | {("zstd", "first"), ("zstd", "restore")}
