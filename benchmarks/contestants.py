"""The programs that are measured, and how each is called. Defaults but for what is said here."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

PASSPHRASE = "correct horse battery staple"
DISK_NAME = "disk.raw"


class Measure(StrEnum):
    """What is measured, in the order in which a round goes through it."""

    FIRST = "first"
    UNCHANGED = "unchanged"
    CHANGED = "changed"
    RESTORE = "restore"
    CHECK = "check"
    START = "start"

    @property
    def makes_backup(self) -> bool:
        """Whether it leaves a new backup behind."""
        return self in (Measure.FIRST, Measure.UNCHANGED, Measure.CHANGED)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one contestant works in one round. Commands run with ``folder`` as their current folder.

    ``backup`` names the backup to make or to restore, for those that name them.
    """

    folder: Path
    image: Path
    extents: Path
    backup: str = ""

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def restored(self) -> Path:
        """The folder that a restored disk comes to; somewhere in it."""
        return self.folder / "restored"

    @property
    def caches(self) -> Path:
        """Home of the contestant's own caches; as fresh as its repository."""
        return self.folder / "caches"


class Contestant(Protocol):
    """A program under measurement."""

    @property
    def name(self) -> str: ...

    def version(self) -> str:
        """Its version, as it says itself.

        Raises:
            FileNotFoundError: it is not installed.
        """

    def settings(self) -> str:
        """How it is set, for the report."""

    def environment(self, place: Place) -> dict[str, str]: ...

    def prepare(self, place: Place) -> list[list[str]]:
        """Commands that make a new, empty repository; not measured."""

    def command(self, measure: Measure, place: Place) -> list[str] | None:
        """What to measure; None: it has no such thing."""


def _first_line(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return (ended.stdout or ended.stderr).strip().splitlines()[0]


@dataclass(frozen=True, slots=True)
class Stillframe:
    """This project, from the environment that runs the benchmark."""

    program: str = str(Path(sys.executable).with_name("stillframe"))
    name: str = "stillframe"

    def version(self) -> str:
        if not Path(self.program).exists():
            raise FileNotFoundError(self.program)
        return f"stillframe {importlib.metadata.version('stillframe')}"

    def settings(self) -> str:
        return "encrypted; decoded and compared before commit"

    def environment(self, place: Place) -> dict[str, str]:
        return {
            "STILLFRAME_REPO": str(place.repository),
            "STILLFRAME_PASSPHRASE": PASSPHRASE,
            "XDG_CACHE_HOME": str(place.caches),
        }

    def prepare(self, place: Place) -> list[list[str]]:  # noqa: ARG002
        return [[self.program, "repo", "init"]]

    def command(self, measure: Measure, place: Place) -> list[str] | None:
        backup = [self.program, "backup", "image", str(place.image), "--machine", "bench"]
        restored = str(place.restored / DISK_NAME)
        return {
            Measure.FIRST: backup,
            Measure.UNCHANGED: backup,
            Measure.CHANGED: [*backup, "--changed", str(place.extents)],
            Measure.RESTORE: [self.program, "restore", "disk", "bench@latest", DISK_NAME, restored],
            Measure.CHECK: [self.program, "repo", "check", "--read-data"],
            Measure.START: [self.program, "points"],
        }[measure]


@dataclass(frozen=True, slots=True)
class Restic:
    """restic: content-defined chunks. ``--force``, since it would believe the time of the file."""

    name: str = "restic"

    def version(self) -> str:
        return _first_line("restic", "version")

    def settings(self) -> str:
        return "encrypted, compression auto, --force (reads the file whatever its time says)"

    def environment(self, place: Place) -> dict[str, str]:
        return {
            "RESTIC_REPOSITORY": str(place.repository),
            "RESTIC_PASSWORD": PASSPHRASE,
            "RESTIC_CACHE_DIR": str(place.caches),
        }

    def prepare(self, place: Place) -> list[list[str]]:  # noqa: ARG002
        return [["restic", "--quiet", "init"]]

    def command(self, measure: Measure, place: Place) -> list[str] | None:
        backup = ["restic", "--quiet", "backup", "--force", "--host", "bench", str(place.image)]
        return {
            Measure.FIRST: backup,
            Measure.UNCHANGED: backup,
            Measure.CHANGED: backup,
            Measure.RESTORE: ["restic", "--quiet", "restore", "latest", "--target", str(place.restored)],
            Measure.CHECK: ["restic", "--quiet", "check", "--read-data"],
            Measure.START: ["restic", "snapshots"],
        }[measure]


@dataclass(frozen=True, slots=True)
class Borg:
    """borg with fixed chunks, as its manual advises for disk images; without its cache of file times."""

    name: str = "borg"

    def version(self) -> str:
        return _first_line("borg", "--version")

    def settings(self) -> str:
        return "repokey-blake2, create --chunker-params fixed,4194304 -C zstd,1 --files-cache=disabled"

    def environment(self, place: Place) -> dict[str, str]:
        return {
            "BORG_REPO": str(place.repository),
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_BASE_DIR": str(place.caches),
        }

    def prepare(self, place: Place) -> list[list[str]]:  # noqa: ARG002
        return [["borg", "init", "--encryption", "repokey-blake2"]]

    def command(self, measure: Measure, place: Place) -> list[str] | None:
        options = ["--chunker-params", "fixed,4194304", "-C", "zstd,1", "--files-cache=disabled"]
        backup = ["borg", "create", *options, f"::{place.backup}", str(place.image)]
        extract = ["borg", "extract", "--sparse", f"::{place.backup}"]
        return {
            Measure.FIRST: backup,
            Measure.UNCHANGED: backup,
            Measure.CHANGED: backup,
            # borg restores into its current folder.
            Measure.RESTORE: ["env", "-C", str(place.restored), *extract],
            Measure.CHECK: ["borg", "check", "--verify-data"],
            Measure.START: ["borg", "list"],
        }[measure]


@dataclass(frozen=True, slots=True)
class Zstd:
    """zstd alone: one compressed file, no encryption, nothing found again."""

    name: str = "zstd"

    def version(self) -> str:
        return _first_line("zstd", "--version").strip("* ")

    def settings(self) -> str:
        return "-1 -T2; not encrypted"

    def environment(self, place: Place) -> dict[str, str]:  # noqa: ARG002
        return {}

    def prepare(self, place: Place) -> list[list[str]]:
        return [["mkdir", str(place.repository)]]

    def command(self, measure: Measure, place: Place) -> list[str] | None:
        stored, restored = str(place.repository / "disk.zst"), str(place.restored / DISK_NAME)
        return {
            Measure.FIRST: ["zstd", "-q", "-1", "-T2", str(place.image), "-o", stored],
            Measure.RESTORE: ["zstd", "-q", "-d", stored, "-o", restored],
        }.get(measure)


@dataclass(frozen=True, slots=True)
class Copy:
    """cp: what the disk of this machine can do. A true copy, also where a file system could share blocks."""

    name: str = "cp"

    def version(self) -> str:
        return _first_line("cp", "--version")

    def settings(self) -> str:
        return "--reflink=never; holes stay holes"

    def environment(self, place: Place) -> dict[str, str]:  # noqa: ARG002
        return {}

    def prepare(self, place: Place) -> list[list[str]]:
        return [["mkdir", str(place.repository)]]

    def command(self, measure: Measure, place: Place) -> list[str] | None:
        copy = ["cp", "--reflink=never"]
        stored, restored = str(place.repository / DISK_NAME), str(place.restored / DISK_NAME)
        return {
            Measure.FIRST: [*copy, str(place.image), stored],
            Measure.RESTORE: [*copy, stored, restored],
        }.get(measure)


ALL: tuple[Contestant, ...] = (Stillframe(), Restic(), Borg(), Zstd(), Copy())
