from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stillframe.cli import main as command_line
from stillframe.disk.create import create_disk
from stillframe.disk.still import Geometry
from tests.disk.disks import read_file
from tests.disk.vhd.shapes import MIB, make_child, make_vhd


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(monkeypatch, capsys)


class Runner:
    """Runs the command line as a user does; ``out`` and ``err`` are what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        self._monkeypatch.setattr(sys, "argv", ["stillframe", "disk", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        self.out, self.err = self._capsys.readouterr()
        code = caught.value.code
        return code if isinstance(code, int) else 0


@pytest.fixture
def vhd(tmp_path: Path) -> Path:
    return make_vhd(tmp_path / "disk.vhd", [(MIB, b"x" * 512)], block_bytes=MIB)


def test_info_as_json_has_every_field(run: Runner, vhd: Path) -> None:
    assert run("info", vhd, "--json") == 0
    told = json.loads(run.out)
    assert told.pop("disk_id")
    assert told == {
        "file": str(vhd),
        "format": "vhd",
        "type": "dynamic",
        "size_bytes": 4 * MIB,
        "logical_sector_bytes": 512,
        "physical_sector_bytes": 512,
        "block_size_bytes": MIB,
        "data_bytes": MIB,
        "file_size_bytes": vhd.stat().st_size,
        "creator": "win 10.0",
        "parents": [],
        "notes": [],
    }


def test_info_for_people_names_parents_and_notes(run: Runner, vhd: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path / "child.vhd", vhd)
    child.write_bytes(child.read_bytes()[:-512] + bytes(512))
    assert run("info", child) == 0
    assert "vhd, differencing" in run.out
    assert "4 MiB (4194304 bytes)" in run.out
    assert str(vhd) in run.out
    assert "copy at the beginning" in run.out


def test_extents_as_json_and_as_a_table(run: Runner, vhd: Path) -> None:
    assert run("extents", vhd, "--json") == 0
    assert json.loads(run.out) == [
        {"offset_bytes": 0, "length_bytes": MIB, "kind": "unmapped"},
        {"offset_bytes": MIB, "length_bytes": MIB, "kind": "data"},
        {"offset_bytes": 2 * MIB, "length_bytes": 2 * MIB, "kind": "unmapped"},
    ]
    assert run("extents", vhd) == 0
    assert run.out.splitlines()[0].split() == ["offset", "length", "kind"]
    assert run.out.splitlines()[2].split() == ["1048576", "1048576", "data"]


@pytest.mark.parametrize(
    ("name", "options", "format", "kind"),
    [
        ("new.vhdx", [], "vhdx", "dynamic"),
        ("new.vhdx", ["--type", "fixed"], "vhdx", "fixed"),
        ("new.vhd", ["--block-size", "512K"], "vhd", "dynamic"),
        ("new.img", [], "raw", "file"),
        ("new", ["--format", "vhd", "--type", "fixed"], "vhd", "fixed"),
    ],
)
def test_convert_makes_an_equal_disk_of_the_format_asked_for(
    run: Runner, vhd: Path, tmp_path: Path, name: str, options: list[str], format: str, kind: str
) -> None:
    made = tmp_path / name
    assert run("convert", vhd, made, *options) == 0
    assert "64 KiB written, 3.94 MiB zero" in run.out
    assert run("compare", vhd, made) == 0
    assert run.out == "equal\n"
    assert run("info", made, "--json") == 0
    told = json.loads(run.out)
    assert (told["format"], told["type"]) == (format, kind)
    if "--block-size" in options:
        assert told["block_size_bytes"] == 512 << 10


def test_convert_flattens_a_chain(run: Runner, vhd: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path / "child.vhd", vhd, [(0, b"y" * 512)])
    assert run("convert", child, tmp_path / "flat.raw") == 0
    assert (tmp_path / "flat.raw").read_bytes() == read_file(child)


def test_convert_makes_the_same_file_twice_when_asked(run: Runner, vhd: Path, tmp_path: Path) -> None:
    for name in ("a.vhd", "b.vhd"):
        assert run("convert", vhd, tmp_path / name, "--deterministic") == 0
    assert (tmp_path / "a.vhd").read_bytes() == (tmp_path / "b.vhd").read_bytes()


def test_convert_replaces_only_when_forced(run: Runner, vhd: Path, tmp_path: Path) -> None:
    made = tmp_path / "new.raw"
    made.write_bytes(b"precious")
    assert run("convert", vhd, made) == 2
    assert "exists already" in run.err
    assert "--force" in run.err
    assert made.read_bytes() == b"precious"
    assert run("convert", vhd, made, "--force") == 0
    assert made.read_bytes() == read_file(vhd)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["disk.vhd", "new.raw"]


def test_convert_never_replaces_what_it_reads(run: Runner, vhd: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path / "child.vhd", vhd)
    before = vhd.read_bytes()
    for destination in (child, vhd):
        assert run("convert", child, destination, "--force") == 2
        assert "is what is to be read" in run.err
    assert vhd.read_bytes() == before


def test_a_failed_convert_leaves_nothing_and_replaces_nothing(run: Runner, vhd: Path, tmp_path: Path) -> None:
    made = tmp_path / "new.vhd"
    made.write_bytes(b"precious")
    data = bytearray(vhd.read_bytes())
    data[1536 + 8 : 1536 + 12] = (1 << 20).to_bytes(4)  # a block beyond the end of the file
    vhd.write_bytes(data)
    assert run("convert", vhd, made, "--force") == 4
    assert "beyond the end" in run.err
    assert made.read_bytes() == b"precious"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["disk.vhd", "new.vhd"]


def test_a_source_written_to_meanwhile_is_not_converted(
    run: Runner, vhd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stillframe.disk import convert

    copy = convert.copy_disk

    def meddling(*arguments: object) -> object:
        vhd.touch()
        return copy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(convert, "copy_disk", meddling)
    assert run("convert", vhd, tmp_path / "new.raw") == 1
    assert "was written to while it was read" in run.err
    assert [each.name for each in tmp_path.iterdir()] == ["disk.vhd"]


def test_compare_tells_the_first_difference(run: Runner, vhd: Path, tmp_path: Path) -> None:
    other = make_vhd(tmp_path / "other.vhd", [(MIB, b"x" * 500)])
    assert run("compare", vhd, other) == 1
    assert run.out == f"different: first at offset {MIB + 500}\n"


def test_compare_tells_when_only_the_sizes_differ(run: Runner, tmp_path: Path) -> None:
    for name, size in (("a.raw", MIB), ("b.raw", 2 * MIB)):
        create_disk(tmp_path / name, Geometry(size), format="raw").finish()
    assert run("compare", tmp_path / "a.raw", tmp_path / "b.raw") == 1
    assert "equal up to offset 1048576, but of 1048576 and 2097152 bytes" in run.out


def test_parents_elsewhere_need_permission(run: Runner, vhd: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path / "child.vhd", vhd)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    vhd.rename(elsewhere / vhd.name)
    for arguments in (["info", child], ["extents", child], ["compare", child, child]):
        assert run(*arguments) == 2
        assert "its parent was not found" in run.err
        assert run(*arguments, "--parent-dir", elsewhere) == 0
    assert run("convert", child, tmp_path / "new.raw", "--parent-dir", elsewhere) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["info", "missing.vhdx"], "missing.vhdx: cannot be opened"),
        (["convert", "disk.vhd", "new"], "suffix"),
        (["convert", "disk.vhd", "new.raw", "--block-size", "many"], "'many' is not a size"),
        (["convert", "disk.vhd", "new.raw", "--type", "fixed"], "neither fixed nor dynamic"),
        (["convert", "disk.vhd", "new.vhd", "--block-size", "3M"], "power of two"),
    ],
)
def test_mistakes_end_as_one_line_and_exit_code_2(
    run: Runner, vhd: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(vhd.parent)
    assert run(*arguments) == 2
    assert run.err.startswith("stillframe: ")
    assert told in run.err.splitlines()[0]
    assert [each.name for each in vhd.parent.iterdir()] == ["disk.vhd"]


def test_importing_the_command_imports_nothing_heavy() -> None:
    heavy = ["numpy", "rich", "cryptography", "stillframe.disk.vhd", "stillframe.disk.vhdx"]
    code = f"import sys, stillframe.cli.disk; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"
