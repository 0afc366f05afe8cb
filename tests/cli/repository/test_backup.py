"""Disks go in by the command line and come out again; what is wrong is said."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stillframe.disk.create import create_disk
from stillframe.disk.open import open_disk
from stillframe.disk.still import Geometry
from stillframe.protection import image as protection
from tests.cli.repository.conftest import MIB, Run, write_disk


def back_up(run: Run, *images: object, machine: str = "web", **options: object) -> Any:
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    done = run("backup", "image", *images, "--machine", machine, "--json", *words)
    assert done.code == 0, done.err
    return done.json


def test_a_first_backup_is_full_and_says_so(run: Run, disk: Path) -> None:
    told = back_up(run, disk)
    assert set(told) == {"point", "disks", "statistics", "attempts"}
    assert told["disks"] == [
        {"name": "system.raw", "kind": "full", "reason": "no earlier point of this disk"}
    ]
    point, counted = told["point"], told["statistics"]
    assert (point["machine"], point["kind"], point["consistency"]) == ("web", "full", "crash")
    assert counted["size_bytes"] == 2 * MIB
    assert counted["new_bytes"] + counted["found_bytes"] + counted["zero_bytes"] == counted["read_bytes"]
    assert {"read_s", "hash_s", "look_up_s", "compress_s", "encrypt_s", "write_s", "wall_s"} <= set(counted)


def test_a_second_backup_stores_only_what_changed(run: Run, disk: Path) -> None:
    first = back_up(run, disk)
    write_disk(disk, {MIB + 65536: b"changed"})
    second = back_up(run, disk)
    assert second["point"]["kind"] == "incremental"
    assert second["point"]["parent"] == first["point"]["id"]
    assert second["statistics"]["new_bytes"] == 65536


def test_known_changes_are_all_that_is_read(run: Run, disk: Path, tmp_path: Path) -> None:
    back_up(run, disk)
    write_disk(disk, {4096: b"B" * 4096})
    extents = tmp_path / "extents.json"
    extents.write_text("[[4096, 4096]]")
    told = back_up(run, disk, changed=extents)
    assert told["disks"][0]["reason"] == "changed extents were given"
    assert told["statistics"]["read_bytes"] == 4096
    assert run("restore", "disk", "web@latest", disk.name, tmp_path / "out.raw").code == 0
    assert (tmp_path / "out.raw").read_bytes() == disk.read_bytes()


def test_changes_of_several_images_are_named(run: Run, disk: Path, tmp_path: Path) -> None:
    data = write_disk(tmp_path / "data.raw", {0: b"D" * 65536})
    back_up(run, disk, data)
    write_disk(data, {0: b"E" * 512})
    extents = tmp_path / "extents.json"
    extents.write_text('{"data.raw": [[0, 512]], "system.raw": []}')
    told = back_up(run, disk, data, changed=extents)
    assert told["statistics"]["read_bytes"] == 4096
    assert run("restore", "disk", "web@latest", "data.raw", tmp_path / "out.raw").code == 0
    assert (tmp_path / "out.raw").read_bytes() == data.read_bytes()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no JSON document"),
        ("[[0, 512]", "is no JSON document"),
        ("[" * 100000, "is no JSON document"),
        ("3", "is neither a list nor an object"),
        ("[0, 512]", "item 0: is not [offset_bytes, length_bytes]"),
        ("[[0, 512], [512]]", "item 1: is not [offset_bytes, length_bytes]"),
        ("[[0, 512.0]]", "item 0: is not"),
        ("[[true, 512]]", "item 0: is not"),
        ("[[-1, 512]]", "item 0: -1+512 is no range"),
        ("[[0, 99999999999999999999]]", "is no range"),
        ('{"other.raw": []}', "names 'other.raw', which is none of the disks"),
        ('{"system.raw": 3}', "system.raw: is not a list"),
    ],
)
def test_a_bad_list_of_changes_is_refused(
    run: Run, disk: Path, tmp_path: Path, text: str, complaint: str
) -> None:
    extents = tmp_path / "extents.json"
    extents.write_text(text)
    refused = run("backup", "image", disk, "--machine", "web", "--changed", extents)
    assert refused.code == 2
    assert complaint in refused.err
    assert run("points", "--json").json == []


def test_changes_beyond_the_end_of_the_disk_are_refused(run: Run, disk: Path, tmp_path: Path) -> None:
    back_up(run, disk)
    extents = tmp_path / "extents.json"
    extents.write_text(f"[[{2 * MIB}, 1]]")
    refused = run("backup", "image", disk, "--machine", "web", "--changed", extents)
    assert refused.code == 2
    assert f"leaves the disk of {2 * MIB} bytes" in refused.err
    assert len(run("points", "--json").json) == 1


def test_one_list_cannot_be_of_two_images(run: Run, disk: Path, tmp_path: Path) -> None:
    other = write_disk(tmp_path / "data.raw", {})
    (tmp_path / "extents.json").write_text("[]")
    refused = run("backup", "image", disk, other, "--machine", "web", "--changed", tmp_path / "extents.json")
    assert refused.code == 2
    assert "is one list, but there are 2 images" in refused.err


def test_a_missing_list_of_changes(run: Run, disk: Path, tmp_path: Path) -> None:
    refused = run("backup", "image", disk, "--machine", "web", "--changed", tmp_path / "missing.json")
    assert refused.code == 2
    assert "No such file" in refused.err


def test_two_disks_of_one_name_need_an_alias(run: Run, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = write_disk(tmp_path / "b" / disk.name, {0: b"other"})
    refused = run("backup", "image", disk, other, "--machine", "web")
    assert refused.code == 2
    assert "two disks would be called 'system.raw'" in refused.err
    assert f"second-system.raw={other}" in refused.err
    told = back_up(run, disk, f"second={other}")
    assert [each["name"] for each in told["point"]["disks"]] == ["system.raw", "second"]
    assert run("restore", "disk", "web@latest", "second", tmp_path / "out.raw").code == 0
    assert (tmp_path / "out.raw").read_bytes() == other.read_bytes()


def test_a_path_may_hold_an_equals_sign(run: Run, tmp_path: Path) -> None:
    told = back_up(run, write_disk(tmp_path / "a=b.raw", {}))
    assert told["point"]["disks"][0]["name"] == "a=b.raw"


@pytest.mark.parametrize("machine", ["", " web", "a\nb", "\x1b[2J"])
def test_a_machine_needs_a_name_that_can_be_shown(run: Run, disk: Path, machine: str) -> None:
    refused = run("backup", "image", disk, "--machine", machine)
    assert refused.code == 2
    assert "cannot be the name of a machine" in refused.err


@pytest.mark.parametrize("name", ["..", ".", "n" * 256, "é" * 128])
def test_a_disk_needs_a_name_that_a_file_can_have(run: Run, disk: Path, name: str) -> None:
    done = run("backup", "image", f"{name}={disk}", "--machine", "web")
    assert done.code == 2
    assert name[:20] in done.err


def test_a_point_from_the_future_is_told(run: Run, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(protection, "_now", lambda: datetime(2999, 1, 1, tzinfo=UTC))
        future = back_up(run, disk)["point"]["id"]
    done = run("backup", "image", disk, "--machine", "web")
    assert done.code == 0
    assert "1 points of web claim a later time" in done.err
    assert future in done.err
    assert run("points", "forget", future).code == 0
    assert run("backup", "image", disk, "--machine", "web").err == ""


def test_an_image_that_is_not_there(run: Run, tmp_path: Path) -> None:
    refused = run("backup", "image", tmp_path / "missing.vhdx", "--machine", "web")
    assert refused.code == 2
    assert "missing.vhdx" in refused.err


def test_a_file_written_to_meanwhile_is_marked_or_refused(
    run: Run, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stillframe.repository.ingest import IngestRun

    store = IngestRun.scan

    def scan_while_a_guest_writes(self: IngestRun, *arguments: object) -> object:
        root = store(self, *arguments)  # type: ignore[arg-type]
        write_disk(disk, {0: b"guest"}, size_bytes=3 * MIB)
        return root

    monkeypatch.setattr(IngestRun, "scan", scan_while_a_guest_writes)
    refused = run("backup", "image", disk, "--machine", "web", "--require", "crash")
    assert refused.code == 1
    assert "written to while it was read" in refused.err
    assert run("points", "--json").json == []
    disk.write_bytes(disk.read_bytes()[: 2 * MIB])
    marked = run("backup", "image", disk, "--machine", "web")
    assert marked.code == 0
    assert "marked inconsistent" in marked.err
    assert run("points", "--json").json[0]["consistency"] == "inconsistent"


def test_more_consistency_than_an_image_can_prove_is_refused(run: Run, disk: Path) -> None:
    refused = run("backup", "image", disk, "--machine", "web", "--require", "application")
    assert refused.code == 7
    assert "crash-consistent at best" in refused.err


def test_an_interrupt_is_code_130_and_the_next_run_goes_on(
    run: Run, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stillframe.repository.ingest import IngestRun

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as pressed:
        pressed.setattr(IngestRun, "scan", interrupt)
        stopped = run("backup", "image", disk, "--machine", "web")
    assert stopped.code == 130
    assert "interrupted; what was stored stays" in stopped.err
    assert "Traceback" not in stopped.err
    back_up(run, disk)


def test_a_restore_picks_its_format_by_suffix_or_option(run: Run, disk: Path, tmp_path: Path) -> None:
    back_up(run, disk)
    told = run("restore", "disk", "web@latest", disk.name, tmp_path / "out.vhdx", "--json").json
    assert told["size_bytes"] == 2 * MIB
    assert told["written_bytes"] + told["zero_bytes"] == 2 * MIB
    assert run("restore", "disk", "web@latest", disk.name, tmp_path / "out", "--format", "vhd").code == 0
    for name in ("out.vhdx", "out"):
        restored = open_disk(tmp_path / name)
        data = bytearray(restored.geometry.size_bytes)
        restored.read_into(0, memoryview(data))
        restored.close()
        assert data[: 2 * MIB] == disk.read_bytes()


def test_a_restore_overwrites_nothing(run: Run, disk: Path, tmp_path: Path) -> None:
    back_up(run, disk)
    (tmp_path / "precious.raw").write_bytes(b"precious")
    refused = run("restore", "disk", "web@latest", disk.name, tmp_path / "precious.raw")
    assert refused.code == 2
    assert (tmp_path / "precious.raw").read_bytes() == b"precious"


def test_a_suffix_that_says_nothing_needs_a_format(run: Run, disk: Path, tmp_path: Path) -> None:
    back_up(run, disk)
    refused = run("restore", "disk", "web@latest", disk.name, tmp_path / "out")
    assert refused.code == 2
    assert "--format" in refused.err


def test_a_restore_in_place_writes_only_what_differs(run: Run, disk: Path, tmp_path: Path) -> None:
    back_up(run, disk)
    before = disk.read_bytes()
    write_disk(disk, {65536: b"ransom" * 100})
    told = run("restore", "disk", "web@latest", disk.name, disk, "--in-place", "--json").json
    assert disk.read_bytes() == before
    assert told["equal_bytes"] == 2 * MIB - 65536
    clash = run("restore", "disk", "web@latest", disk.name, disk, "--in-place", "--format", "raw")
    assert clash.code == 2


def test_a_restore_in_place_keeps_to_its_formats(run: Run, disk: Path, tmp_path: Path) -> None:
    back_up(run, disk)
    create_disk(tmp_path / "other.vhdx", Geometry(2 * MIB), format="vhdx").finish()
    refused = run("restore", "disk", "web@latest", disk.name, tmp_path / "other.vhdx", "--in-place")
    assert refused.code == 5


def test_a_disk_that_the_point_does_not_have(run: Run, disk: Path, tmp_path: Path) -> None:
    back_up(run, disk)
    refused = run("restore", "disk", "web@latest", "other.raw", tmp_path / "out.raw")
    assert refused.code == 2
    assert "Disks: system.raw" in refused.err


def test_what_people_read_names_point_and_figures(run: Run, disk: Path, tmp_path: Path) -> None:
    told = run("backup", "image", disk, "--machine", "web")
    assert told.code == 0
    point = json.loads(run("points", "--json").out)[0]["id"]
    assert point in told.out
    assert "no earlier point of this disk" in told.out
    assert "of 2 MiB" in told.out
    restored = run("restore", "disk", point[:4], disk.name, tmp_path / "out.raw")
    assert restored.code == 0
    assert "written" in restored.out
