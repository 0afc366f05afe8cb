"""The demo tells its story to the end, notices what does not hold, and leaves nothing frozen or mounted."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tools.demo import __main__ as demo
from tools.demo import ledger, programs
from tools.demo.errors import DemoError
from tools.demo.ledger import TOTAL, Bookkeeper, Statement
from tools.demo.ledger_disk import LEDGER, CopiedDisk, make_image, release_leftovers
from tools.demo.sizes import SMALL
from tools.demo.story import Story
from tools.demo.summary import Moment

from tests.tools import need, need_root

WAIT_S = 60


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / LEDGER
    ledger.create(path)
    return path


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, f"never: {what}"
        time.sleep(0.01)


def test_the_ledger_loses_and_makes_no_money(database: Path) -> None:
    keeper = Bookkeeper(database)
    keeper.start()
    wait_until("20 transfers", lambda: keeper.booked >= 20)
    keeper.stop()
    found = ledger.read(database)
    assert (found.transfers, found.total) == (keeper.booked, TOTAL)


def test_a_held_ledger_is_not_worked_on(database: Path) -> None:
    keeper = Bookkeeper(database)
    keeper.start()
    wait_until("5 transfers", lambda: keeper.booked >= 5)
    with ledger.held(database) as statement:
        time.sleep(0.3)  # some hundred transfers, were it not held
        assert keeper.booked == statement.transfers
    wait_until("more transfers", lambda: keeper.booked > statement.transfers + 5)
    keeper.stop()


def test_a_ledger_that_fails_is_noticed(database: Path) -> None:
    keeper = Bookkeeper(database.parent)  # a folder is no database
    keeper.start()
    with pytest.raises(DemoError, match="stopped working"):
        keeper.stop()


def test_a_theft_shows(database: Path) -> None:
    before = ledger.read(database)
    ledger.embezzle(database)
    after = ledger.read(database)
    assert after.total < before.total == TOTAL
    assert after.digest != before.digest


@pytest.mark.parametrize("change", [{"transfers": 1}, {"total": TOTAL - 1}, {"digest": "0" * 16}])
def test_a_ledger_that_says_something_else_ends_the_story(
    database: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    story = Story(tmp_path, SMALL, mount=False)
    statement = ledger.read(database)
    story._expect(database, moment(statement))
    with pytest.raises(DemoError, match="at that moment the ledger said"):
        story._expect(database, moment(dataclasses.replace(statement, **change)))


def test_missing_money_ends_the_story(database: Path, tmp_path: Path) -> None:
    ledger.embezzle(database)
    with pytest.raises(DemoError, match="accounts sum to"):
        Story(tmp_path, SMALL, mount=False)._expect(database, moment(ledger.read(database)))


def moment(statement: Statement) -> Moment:
    return Moment("", "", "", statement, 0, 0, 0, 0.0)


def test_a_command_that_fails_ends_the_story(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="stillframe points: failed with"):
        Story(tmp_path, SMALL, mount=False)._narrator.run("stillframe", "points")


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    assert demo.main(["--folder", str(tmp_path)]) == 1
    assert (tmp_path / "precious").exists()


@pytest.mark.integration
@pytest.mark.parametrize("how", ["mounted", "copied"])
def test_the_whole_story(how: str, tmp_path: Path) -> None:
    for program in ("mkfs.ext4", "debugfs", "e2fsck", "qemu-img", "qemu-io"):
        need(program)
    if how == "mounted":
        need_root()
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "tools.demo", "--small", "--folder", folder]
    options = [] if how == "mounted" else ["--no-mount"]
    told = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=250)
    assert told.returncode == 0, told.stderr
    assert "everything holds" in told.stdout
    assert "\x1b" not in told.stdout, "colours where no terminal is"
    assert told.stdout.count("$ stillframe backup image") == 4
    assert told.stdout.count("just what the ledger said then") == 2
    assert not (folder / "mounted").exists()
    by_hand = [line for line in told.stdout.splitlines() if line.startswith(("cd ", "export "))]
    subprocess.run(["sh", "-ec", "\n".join([*by_hand, "stillframe points"])], check=True)


@pytest.mark.integration
def test_what_is_copied_into_a_disk_is_there(tmp_path: Path) -> None:
    for program in ("mkfs.ext4", "debugfs", "cmp"):
        need(program)
    disk = CopiedDisk(make_image(tmp_path, 16 << 20))
    ledger.embezzle(disk.database)
    with disk.still() as statement:
        programs.run("debugfs", "-R", f'dump /{LEDGER} "{tmp_path / "found"}"', disk.image)
    assert ledger.read(tmp_path / "found") == statement


@pytest.mark.integration
def test_a_full_disk_is_noticed(tmp_path: Path) -> None:
    for program in ("mkfs.ext4", "debugfs", "cmp"):
        need(program)
    disk = CopiedDisk(make_image(tmp_path, 8 << 20))
    with pytest.raises(DemoError, match="cmp failed"):
        disk.add_receipt("too-large", os.urandom(16 << 20))


HOLD = """
import sys, time
from pathlib import Path
from tools.demo.ledger_disk import MountedDisk, make_image
disk = MountedDisk(make_image(Path(sys.argv[1]), 16 << 20))
with disk.still():
    print("still", flush=True)
    time.sleep(600)
"""


@pytest.mark.integration
def test_a_frozen_disk_thaws_when_the_demo_is_killed(tmp_path: Path) -> None:
    need_root()
    fsfreeze, _ = need("fsfreeze"), need("mkfs.ext4")
    mounted = tmp_path / "mounted"
    try:
        with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"still\n"
            with subprocess.Popen(["touch", mounted / "written"]) as writer:
                time.sleep(0.2)
                assert writer.poll() is None, "the disk was not frozen"
                holder.kill()
                try:
                    wait_until("the disk thaws", lambda: writer.poll() is not None)
                finally:
                    subprocess.run([fsfreeze, "--unfreeze", mounted], check=False, capture_output=True)
        assert (mounted / "written").exists()
    finally:
        release_leftovers(tmp_path)
    assert not mounted.is_mount()
