"""The story, chapter by chapter. Every promise is checked; the first that does not hold ends it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

from tools.demo import ledger, programs, summary
from tools.demo.errors import DemoError
from tools.demo.ledger import TOTAL, Bookkeeper, Statement
from tools.demo.ledger_disk import LEDGER, CopiedDisk, LedgerDisk, MountedDisk, make_image, may_mount
from tools.demo.narrator import Narrator
from tools.demo.sizes import Sizes
from tools.demo.summary import Moment
from tools.demo.system_disk import Range, SystemDisk

MACHINE = "books"
SETTINGS = {"STILLFRAME_REPO": "repository", "STILLFRAME_PASSPHRASE": "only for the demo"}


class Story:
    """One run of the demo in an empty folder."""

    def __init__(self, folder: Path, sizes: Sizes, *, mount: bool) -> None:
        self._folder = folder
        self._sizes = sizes
        self._mount = mount and may_mount(folder)
        self._settings = {**SETTINGS, "STILLFRAME_REPO": str(folder / SETTINGS["STILLFRAME_REPO"])}
        self._narrator = Narrator(folder, self._settings)
        self._system = SystemDisk(folder)
        self._moments: list[Moment] = []

    def tell(self) -> None:
        """From the first backup to the last check.

        Raises:
            DemoError: something does not hold.
        """
        self._introduce()
        self._build_system_disk()
        self._run_machine()
        self._restore_whole_disk()
        self._restore_one_file()
        self._roll_back()
        self._check()
        self._sum_up()

    def _introduce(self) -> None:
        say = self._narrator.say
        say(
            "Stillframe: a machine's disks go in, any moment comes out. All that follows is real and stays in"
        )
        say(f"{self._folder} for you to go on with. The commands below are run just so, after:")
        say()
        for line in self._by_hand():
            say(line, "bold")

    def _by_hand(self) -> list[str]:
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self._settings.items()]
        own = shlex.quote(str(programs.OWN_FOLDER))
        return [f"cd {shlex.quote(str(self._folder))}", f"export PATH={own}:$PATH", *exports]

    def _build_system_disk(self) -> None:
        narrator = self._narrator
        narrator.chapter(f"A machine named {MACHINE!r} with two disks")
        with narrator.busy("making system.vhdx: ext4 with programs, libraries and a search index"):
            self._system.build(self._sizes)
        narrator.run("stillframe", "disk", "info", self._system.image.name)

    def _run_machine(self) -> None:
        with ExitStack() as stack:
            disk = stack.enter_context(closing(self._ledger_disk()))
            keeper = Bookkeeper(disk.database)
            keeper.start()
            stack.callback(keeper.stop)
            self._first_backup(disk, keeper)
            self._second_backup(disk, keeper)
            self._third_backup(disk, keeper)
            self._fourth_backup(disk, keeper)

    def _ledger_disk(self) -> LedgerDisk:
        image = make_image(self._folder, self._sizes.ledger_disk_bytes)
        if self._mount:
            self._narrator.say("ledger.raw: ext4, mounted; a ledger in SQLite works on it without a rest")
            return MountedDisk(image)
        self._narrator.say(
            "ledger.raw: ext4; a ledger in SQLite works without a rest in a folder beside it, for only"
        )
        self._narrator.say("root may mount; debugfs copies it into the image while it is held")
        return CopiedDisk(image)

    def _first_backup(self, disk: LedgerDisk, keeper: Bookkeeper) -> None:
        narrator = self._narrator
        narrator.chapter("The first backup: everything, once")
        narrator.run("stillframe", "repo", "init")
        self._work(disk, keeper, 1)
        narrator.say("The ledger is held by its own lock during each run. (Shadow copies, which need no such")
        narrator.say("hold, come with the next version.)")
        self._back_up("first backup", disk)

    def _second_backup(self, disk: LedgerDisk, keeper: Bookkeeper) -> None:
        self._narrator.chapter("An hour later: nobody knows what changed, so every block is compared")
        self._work(disk, keeper, 2)
        self._back_up("all compared", disk)

    def _third_backup(self, disk: LedgerDisk, keeper: Bookkeeper) -> None:
        narrator = self._narrator
        narrator.chapter("Another hour: of the system disk the changes are known, as from change tracking")
        self._work(disk, keeper, 3)
        changes = self._system.write_scattered(self._sizes.scattered_writes)
        if changes:
            narrator.say(f"qemu-io, as the guest, wrote {len(changes)} times 64 KiB into system.vhdx")
        else:
            narrator.say("none, for qemu-io, which would play the guest, is not installed")
        self._back_up("changes known", disk, changes)

    def _fourth_backup(self, disk: LedgerDisk, keeper: Bookkeeper) -> None:
        narrator = self._narrator
        narrator.chapter(
            "A theft: somebody empties accounts and deletes traces; the next backup does not know"
        )
        ledger.embezzle(disk.database)
        self._work(disk, keeper, 4)
        self._back_up("after the theft", disk, [])

    def _work(self, disk: LedgerDisk, keeper: Bookkeeper, number: int) -> None:
        disk.add_receipt(f"scans-{number}.pdf", os.urandom(self._sizes.receipts_bytes))
        self._narrator.wait(
            "the ledger works",
            self._sizes.work_s,
            lambda: f"{keeper.booked} transfers booked since its start",
        )
        keeper.check()

    def _back_up(self, title: str, disk: LedgerDisk, changes: Sequence[Range] | None = None) -> None:
        command = ["stillframe", "backup", "image", "system.vhdx", "ledger.raw", "--machine", MACHINE]
        if changes is not None:
            known = self._folder / "changed.json"
            known.write_text(json.dumps({"system.vhdx": changes}) + "\n")
            command += ["--changed", known.name]
        with disk.still() as statement:
            self._narrator.say(f"the ledger says: {statement}")
            took_s = self._narrator.run(*command)
        self._remember(title, statement, took_s)

    def _remember(self, title: str, statement: Statement, took_s: float) -> None:
        point = self._narrator.ask("stillframe", "points", "show", f"{MACHINE}@latest")
        if point["consistency"] != "crash":
            raise DemoError(f"the point is {point['consistency']}: {point['consistency_reason']}")
        statistics = point["statistics"]
        self._moments.append(
            Moment(
                title,
                point["id"],
                f"{datetime.fromisoformat(point['time']).astimezone():%Y-%m-%dT%H:%M:%S}",
                statement,
                statistics["size_bytes"],
                statistics["read_bytes"],
                statistics["stored_bytes"],
                took_s,
            )
        )

    def _restore_whole_disk(self) -> None:
        narrator = self._narrator
        narrator.chapter("A whole disk comes back as VHDX, and is compared byte for byte")
        narrator.run("stillframe", "restore", "disk", f"{MACHINE}@latest", "system.vhdx", "restored.vhdx")
        narrator.run("stillframe", "disk", "compare", "restored.vhdx", "system.vhdx")
        if programs.find("qemu-img"):
            narrator.run("qemu-img", "compare", "restored.vhdx", "system.vhdx")
            narrator.good("equal, and QEMU says so too")
        else:
            narrator.good("equal (qemu-img, the other judge, is not installed)")

    def _restore_one_file(self) -> None:
        narrator, before = self._narrator, self._moments[-2]
        narrator.chapter("The theft is noticed: the ledger, as it was before")
        narrator.run("stillframe", "points")
        place = f"{MACHINE}@{before.time}:ledger.raw"
        narrator.run("stillframe", "files", "ls", "-l", f"{place}/")
        narrator.run("stillframe", "files", "restore", f"{place}/{LEDGER}", "--to", "restored")
        self._expect(self._folder / "restored" / LEDGER, before)

    def _expect(self, path: Path, moment: Moment) -> None:
        found = ledger.read(path)
        self._narrator.say(f"{path.relative_to(self._folder)} says: {found}")
        if found != moment.statement:
            raise DemoError(f"{path}: at that moment the ledger said: {moment.statement}")
        if found.total != TOTAL:
            raise DemoError(f"{path}: its accounts sum to {found.total}, not to {TOTAL}")
        self._narrator.good(f"just what the ledger said then, and no money is missing from the {TOTAL}")

    def _roll_back(self) -> None:
        narrator, before = self._narrator, self._moments[-2]
        narrator.chapter(
            "The machine is shut down and its ledger disk rolled back in place: only what differs is written"
        )
        narrator.run(
            "stillframe", "restore", "disk", before.point_id, "ledger.raw", "ledger.raw", "--in-place"
        )
        fsck = programs.find("e2fsck")
        if fsck:
            narrator.run(fsck, "-f", "-n", "ledger.raw")
        narrator.run("stillframe", "files", "restore", f"ledger.raw:/{LEDGER}", "--to", "rolled-back")
        self._expect(self._folder / "rolled-back" / LEDGER, before)

    def _check(self) -> None:
        narrator = self._narrator
        narrator.chapter("Is all of it still good? Every pack is read, decrypted, decoded and hashed")
        narrator.run("stillframe", "repo", "check", "--read-data")
        narrator.run("stillframe", "repo", "info")

    def _sum_up(self) -> None:
        narrator = self._narrator
        narrator.chapter("What it cost")
        narrator.table(summary.table(self._moments))
        narrator.good("everything holds. Go on by hand:")
        narrator.say()
        for line in self._by_hand():
            narrator.say(line, "bold")
        for command in ("points", f"files find {MACHINE}@latest '*.pdf'", "repo collect --dry-run", "--help"):
            narrator.say(f"stillframe {command}", "bold")
