"""Listing, showing, comparing and forgetting recovery points."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stillframe.repository.points import Consistency, RecoveryPoint
from stillframe.repository.repository import Repository, open_repository
from stillframe.repository.storage.open import open_storage
from stillframe.repository.unlocking import unlock_slots
from tests.cli.repository.conftest import MIB, PASSPHRASE, Run, write_disk

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def two_machines(run: Run, disk: Path, tmp_path: Path) -> Run:
    other = write_disk(tmp_path / "db.raw", {0: b"db" * 1000})
    for machine, image in (("web", disk), ("db", other), ("web", disk)):
        assert run("backup", "image", image, "--machine", machine).code == 0
    return run


def write_points(path: Path, points: list[RecoveryPoint]) -> None:
    """Commit points without disks, of any time and level."""
    storage = open_storage(str(path))
    repository: Repository = open_repository(
        storage, lambda config: unlock_slots(storage, config, PASSPHRASE)
    )
    for point in points:
        repository.commit_point(repository.draft(), point)
    storage.close()


def daily(count: int, **special: Consistency | bool) -> list[RecoveryPoint]:
    return [
        RecoveryPoint(
            f"{day:016x}", "web", START + timedelta(days=day), Consistency.CRASH, "", "full", "", None, ()
        )
        for day in range(count)
    ]


def test_points_lists_all_and_of_one_machine(two_machines: Run) -> None:
    everything = two_machines("points", "--json").json
    assert [point["machine"] for point in everything] == ["web", "db", "web"]
    assert [point["number"] for point in everything] == [1, 2, 3]
    assert [point["machine"] for point in two_machines("points", "--machine", "db", "--json").json] == ["db"]
    assert two_machines("points", "--machine", "none", "--json").json == []
    shown = two_machines("points").out.splitlines()
    assert len(shown) == 4
    assert all(point["id"] in line for point, line in zip(everything, shown[1:], strict=True))


def test_points_alone_is_points_list(two_machines: Run) -> None:
    assert two_machines("points").out == two_machines("points", "list").out
    assert (
        two_machines("points", "--machine", "db").out == two_machines("points", "list", "--machine", "db").out
    )


def test_help_shows_all_commands(two_machines: Run) -> None:
    told = two_machines("points", "--help")
    assert told.code == 0
    assert all(word in told.out for word in ("list", "show", "diff", "forget"))


def test_a_time_shown_names_the_point(two_machines: Run) -> None:
    for line in two_machines("points", "--machine", "web").out.splitlines()[1:2]:
        point_id, machine, time = line.split()[:3]
        assert two_machines("points", "show", f"{machine}@{time}", "--json").code == 0
        assert point_id


def test_show(two_machines: Run) -> None:
    point = two_machines("points", "--json").json[0]
    assert two_machines("points", "show", point["id"][:8], "--json").json == point
    told = two_machines("points", "show", point["id"]).out
    assert "system.raw" in told
    assert "no earlier point" in told


@pytest.mark.parametrize(
    "spec", ["web", "web@never", "nobody@latest", "abc", "ffffffffffffffff", "web@2026-11-23"]
)
def test_a_point_that_is_not_there(two_machines: Run, spec: str) -> None:
    for command in (
        ("points", "show", spec),
        ("points", "forget", spec),
        ("points", "diff", spec, "web@latest"),
    ):
        refused = two_machines(*command)
        assert refused.code == 2
        assert refused.err.startswith("stillframe: ")
        assert len(refused.err.splitlines()) <= 2


def test_diff_lists_what_may_differ(run: Run, disk: Path, tmp_path: Path) -> None:
    extra = write_disk(tmp_path / "extra.raw", {0: b"x"})
    run("backup", "image", disk, extra, "--machine", "web")
    write_disk(disk, {65536 * 3: b"changed", 65536 * 4: b"changed", MIB: b"changed"})
    new = write_disk(tmp_path / "new.raw", {65536: b"new"})
    run("backup", "image", disk, new, "--machine", "web")
    first, second = (point["id"] for point in run("points", "--json").json)
    told = run("points", "diff", first, second, "--json").json
    assert (told["from"], told["to"], told["removed_disks"]) == (first, second, ["extra.raw"])
    system, added = told["disks"]
    assert system == {
        "name": "system.raw",
        "state": "changed",
        "changed_bytes": 3 * 65536,
        "extents": [[3 * 65536, 2 * 65536], [MIB, 65536]],
    }
    assert (added["state"], added["extents"]) == ("added", [[65536, 65536]])
    assert [d["state"] for d in run("points", "diff", second, second, "--json").json["disks"]] == [
        "equal"
    ] * 2
    only = run("points", "diff", first, second, "--disk", "new.raw", "--json").json
    assert [d["name"] for d in only["disks"]] == ["new.raw"]
    assert run("points", "diff", first, second, "--disk", "none").code == 2
    assert "extra.raw: removed" in run("points", "diff", first, second).out


def test_diff_of_a_disk_that_grew(run: Run, disk: Path) -> None:
    run("backup", "image", disk, "--machine", "web")
    write_disk(disk, {9 * MIB: b"more"}, size_bytes=10 * MIB)
    run("backup", "image", disk, "--machine", "web")
    first, second = (point["id"] for point in run("points", "--json").json)
    grown = run("points", "diff", first, second, "--json").json["disks"][0]
    assert grown["state"] == f"resized from {2 * MIB} to {10 * MIB} bytes"
    assert grown["extents"] == [[9 * MIB, 65536]]


def test_forget_by_name(two_machines: Run) -> None:
    points = [point["id"] for point in two_machines("points", "--json").json]
    told = two_machines("points", "forget", points[0], points[0][:6], "db@latest", "--dry-run", "--json").json
    assert [point["id"] for point in told["forgotten"]] == [points[0], points[1]]
    assert told["dry_run"] is True
    assert len(two_machines("points", "--json").json) == 3
    assert two_machines("points", "forget", points[0], "db@latest").code == 0
    assert [point["id"] for point in two_machines("points", "--json").json] == [points[2]]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--dry-run",),
        ("--machine", "web"),
        ("--utc",),
        ("--keep-last", "0"),
        ("--keep-daily", "-1"),
        ("web@latest", "--keep-last", "1"),
        ("web@latest", "--machine", "web"),
        ("web@latest", "--utc"),
        ("--keep-last", "1", "--machine", "nobody"),
    ],
)
def test_forget_needs_either_points_or_rules(two_machines: Run, words: tuple[str, ...]) -> None:
    assert two_machines("points", "forget", *words).code == 2
    assert len(two_machines("points", "--json").json) == 3


def test_rules_keep_and_say_why(run: Run, repository: Path) -> None:
    write_points(repository, daily(10))
    told = run("points", "forget", "--keep-last", "1", "--keep-weekly", "2", "--utc", "--json").json
    assert [point["id"] for point in told["kept"]] == [f"{9:016x}", f"{7:016x}"]
    assert told["kept"][0]["reasons"] == ["last", "weekly 2026-W46", "last consistent"]
    assert len(told["forgotten"]) == 8
    assert [point["id"] for point in run("points", "--json").json] == [f"{7:016x}", f"{9:016x}"]


def test_a_dry_run_forgets_nothing_and_says_what_it_would(run: Run, repository: Path) -> None:
    write_points(repository, daily(3))
    told = run("points", "forget", "--keep-last", "1", "--dry-run")
    assert told.code == 0
    assert "2 would be forgotten, 1 kept" in told.out
    assert len(run("points", "--json").json) == 3


def test_rules_of_one_machine_leave_the_others_alone(two_machines: Run) -> None:
    assert two_machines("points", "forget", "--keep-last", "1", "--machine", "web").code == 0
    assert [p["machine"] for p in two_machines("points", "--json").json] == ["db", "web"]


def test_pinned_points_stay(run: Run, repository: Path) -> None:
    from dataclasses import replace

    points = daily(3)
    write_points(repository, [replace(points[0], pinned=True), *points[1:]])
    refused = run("points", "forget", f"{0:016x}", f"{1:016x}")
    assert refused.code == 2
    assert "is pinned" in refused.err
    assert len(run("points", "--json").json) == 3
    run("points", "forget", "--keep-last", "1")
    assert [point["id"] for point in run("points", "--json").json] == [f"{0:016x}", f"{2:016x}"]
    assert "pinned" in run("points").out


def test_the_last_application_consistent_point_stays(run: Run, repository: Path) -> None:
    from dataclasses import replace

    points = daily(3)
    points[0] = replace(points[0], consistency=Consistency.APPLICATION)
    write_points(repository, points)
    run("points", "forget", "--keep-last", "1")
    assert [point["id"] for point in run("points", "--json").json] == [f"{0:016x}", f"{2:016x}"]


def test_names_from_a_repository_do_not_drive_the_terminal(run: Run, repository: Path) -> None:
    from dataclasses import replace

    write_points(repository, [replace(daily(1)[0], machine="a\x1b[2J")])
    assert "\x1b" not in run("points").out
