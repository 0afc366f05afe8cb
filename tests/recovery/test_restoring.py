from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from stillframe.errors import UsageError
from stillframe.progress import NoProgress
from stillframe.recovery.files import find, walk
from stillframe.recovery.filesystems.interface import Entry, EntryKind
from stillframe.recovery.restoring import RestoreOptions, RestoreReport, plan, restore
from tests.recovery.memory import MemoryFileSystem


def restored(system: MemoryFileSystem, target: Path, **options: bool) -> RestoreReport:
    return restore([system.found()], target, RestoreOptions(**options), NoProgress())


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_contents_holes_and_times(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    data = b"x" * 5000 + bytes(1 << 20) + b"end"
    system.add("file", data=data)
    report = restored(system, tmp_path / "out")
    path = tmp_path / "out" / "p1" / "file"
    status = path.stat()
    assert path.read_bytes() == data
    assert status.st_blocks * 512 < 1 << 20
    assert (status.st_mtime_ns, status.st_atime_ns) == (1_000_000_007, 2_000_000_009)
    assert (report.files, report.problems) == (1, [])


def test_mode_owner_attributes_and_folder_times(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    system = MemoryFileSystem()
    folder = system.add("locked", EntryKind.DIRECTORY, mode=0o500, owner=1234, group=5678)
    file = system.add("program", data=b"#!", parent=folder.node, mode=0o4750, owner=1234, group=5678)
    system.attributes[file.node] = {"user.note": b"v", "no.such-namespace": b"v"}
    report = restored(system, tmp_path / "out")
    locked = tmp_path / "out" / "p1" / "locked"
    program = (locked / "program").stat()
    assert (stat.S_IMODE(program.st_mode), program.st_uid, program.st_gid) == (0o4750, 1234, 5678)
    assert os.getxattr(locked / "program", "user.note") == b"v"
    assert (stat.S_IMODE(locked.stat().st_mode), locked.stat().st_mtime_ns) == (0o500, 1_000_000_007)
    assert [line.split(" of ")[0] for line in report.lost.lines()] == ["attribute no.such-namespace"]


def test_hard_links_symbolic_links_and_fifos(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    folder = system.add("folder", EntryKind.DIRECTORY)
    first = system.add("first", data=b"shared", link_key="7")
    system.children[folder.node].append(replace(first, name="second"))
    system.link("dangling", "../../nowhere")
    system.add("pipe", EntryKind.FIFO)
    report = restored(system, tmp_path / "out")
    out = tmp_path / "out" / "p1"
    assert (out / "first").samefile(out / "folder" / "second")
    assert (out / "dangling").readlink() == Path("../../nowhere")
    assert stat.S_ISFIFO((out / "pipe").lstat().st_mode)
    assert (report.files, report.links, report.problems) == (2, 2, [])


def test_streams_become_files_beside_theirs(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    entry = system.add("report.doc", data=b"text")
    system.add_stream(entry, 0, "Zone.Identifier", b"[ZoneTransfer]")
    restored(system, tmp_path / "with")
    restored(system, tmp_path / "without", streams=False)
    assert (tmp_path / "with" / "p1" / "report.doc:Zone.Identifier").read_bytes() == b"[ZoneTransfer]"
    assert below(tmp_path / "without" / "p1") == {"report.doc"}


@pytest.mark.parametrize("name", ["..", ".", "", "../outside", "/etc/outside", "a/b", "nul\0", "\ud800"])
def test_a_name_that_is_no_component_is_refused(name: str, tmp_path: Path) -> None:
    system = MemoryFileSystem()
    system.add(name, data=b"evil")
    system.add("good", data=b"good")
    report = restored(system, tmp_path / "out")
    assert below(tmp_path) == {"out", "out/p1", "out/p1/good"}
    assert len(report.problems) == 1


@pytest.mark.parametrize("name", ["..", "a/b"])
def test_nothing_below_a_refused_folder_is_made(name: str, tmp_path: Path) -> None:
    system = MemoryFileSystem()
    folder = system.add(name, EntryKind.DIRECTORY)
    system.add("file", data=b"evil", parent=folder.node)
    restored(system, tmp_path / "out")
    assert below(tmp_path) == {"out", "out/p1"}


def test_device_names_of_windows_are_plain_files_here(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    for name in ("NUL", "con.txt", "C:", "\\\\.\\PhysicalDrive0"):
        system.add(name, data=b"plain")
    restored(system, tmp_path / "out")
    assert {path.read_bytes() for path in (tmp_path / "out" / "p1").iterdir()} == {b"plain"}


def test_device_nodes_and_sockets_are_not_made(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    for kind in (EntryKind.BLOCK_DEVICE, EntryKind.CHARACTER_DEVICE, EntryKind.SOCKET):
        system.add(kind.value, kind)
    report = restored(system, tmp_path / "out")
    assert below(tmp_path / "out") == {"p1"}
    assert len(report.problems) == 3


@pytest.mark.parametrize("replace_files", [False, True])
def test_a_link_is_not_written_through(replace_files: bool, tmp_path: Path) -> None:
    """A directory listed twice under one name: first as a link that leads out, then as a folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    system = MemoryFileSystem()
    system.link("door", str(outside))
    folder = system.add("door", EntryKind.DIRECTORY)
    system.add("file", data=b"evil", parent=folder.node)
    system.link("victim", str(outside / "victim"))
    system.add("victim", data=b"evil")
    restored(system, tmp_path / "out", replace=replace_files)
    assert list(outside.iterdir()) == []


def test_a_link_that_lies_in_the_target_is_not_followed(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    target.mkdir()
    (target / "p1").symlink_to(outside)
    system = MemoryFileSystem()
    system.add("file", data=b"evil")
    restored(system, target, replace=True)
    assert list(outside.iterdir()) == []
    assert (target / "p1" / "file").read_bytes() == b"evil"


def test_nothing_is_replaced_without_leave(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    system.add("file", data=b"new")
    mine = tmp_path / "out" / "p1"
    mine.mkdir(parents=True)
    (mine / "file").write_bytes(b"mine")
    with pytest.raises(UsageError):
        restored(system, tmp_path / "out")
    assert (mine / "file").read_bytes() == b"mine"
    restored(system, tmp_path / "out", replace=True)
    assert (mine / "file").read_bytes() == b"new"


def test_a_damaged_file_is_said_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    system.damaged.add(system.add("bad", data=b"x").node)
    system.add("good", data=b"y")
    report = restored(system, tmp_path / "out")
    assert below(tmp_path / "out" / "p1") == {"good"}
    assert report.problems == ["p1/bad: bad: damaged"]


def test_a_damaged_file_does_not_cost_the_one_it_would_replace(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    system.damaged.add(system.add("file", data=b"x").node)
    mine = tmp_path / "out" / "p1"
    mine.mkdir(parents=True)
    (mine / "file").write_bytes(b"mine")
    restored(system, tmp_path / "out", replace=True)
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == {"file": b"mine"}


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    with pytest.raises(UsageError, match="called p1"):
        restore([system.found(), system.found()], tmp_path / "out", RestoreOptions(), NoProgress())
    assert not (tmp_path / "out").exists()


def test_a_directory_that_contains_itself_ends(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    folder = system.add("folder", EntryKind.DIRECTORY)
    system.children[folder.node].append(replace(folder, name="again"))
    system.children[folder.node].append(Entry("root", 0, EntryKind.DIRECTORY, 0))
    problems: list[str] = []
    assert [path for path, _ in walk(system.found(), problems.append)] == [
        "folder",
        "folder/again",
        "folder/root",
    ]
    assert len(problems) == 2
    restored(system, tmp_path / "out")


def test_a_plan_names_what_a_restore_makes(tmp_path: Path) -> None:
    system = MemoryFileSystem()
    folder = system.add("folder", EntryKind.DIRECTORY)
    system.add("file", data=b"123", parent=folder.node)
    planned = {item.path: item.size_bytes for item in plan([system.found()], pytest.fail)}
    restored(system, tmp_path / "out")
    assert planned == {"p1": 0, "p1/folder": 0, "p1/folder/file": 3}
    assert set(planned) == below(tmp_path / "out")


def test_find_matches_names_or_paths() -> None:
    system = MemoryFileSystem()
    folder = system.add("etc", EntryKind.DIRECTORY)
    system.add("hostname", parent=folder.node)
    system.add("hostname")
    paths = [path for path, _ in find(system.found(), "host*", pytest.fail)]
    assert sorted(paths) == ["etc/hostname", "hostname"]
    assert [path for path, _ in find(system.found(), "/etc/*", pytest.fail)] == ["etc/hostname"]
    assert list(find(system.found(), "HOST*", pytest.fail)) == []
