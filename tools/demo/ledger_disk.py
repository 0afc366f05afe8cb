"""The machine's second disk: a raw image with ext4, on which the ledger works between the backups.

Root mounts the image, and the ledger works on it. Who may not mount has the ledger in a folder beside it, and
debugfs copies it into the image whenever the disk is to stand still.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from tools.demo import ledger, programs
from tools.demo.errors import DemoError
from tools.demo.ledger import Statement

LEDGER = "ledger.db"
RECEIPTS = "receipts"

_MOUNT_FOLDER = "mounted"
_THAW_WHEN_RELEASED = 'echo ready; cat >/dev/null; exec "$1" --unfreeze "$2"'


class LedgerDisk(Protocol):
    """``ledger.raw``, its ledger, and how both stand still."""

    @property
    def image(self) -> Path: ...

    @property
    def database(self) -> Path:
        """Where the ledger works."""

    def add_receipt(self, name: str, content: bytes) -> None: ...

    def still(self) -> AbstractContextManager[Statement]:
        """Hold the ledger by its own lock, and the disk with it, until the end of the block."""

    def close(self) -> None:
        """Leave the image to itself; nothing works on it any more."""


def make_image(folder: Path, size_bytes: int) -> Path:
    """An empty ext4 disk with a folder for receipts."""
    image, tree = folder / "ledger.raw", folder / "ledger-tree"
    (tree / RECEIPTS).mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(size_bytes)
    # No lazy initialization: the kernel would go on writing to a mounted disk for minutes.
    eager = "lazy_itable_init=0,lazy_journal_init=0"
    programs.run("mkfs.ext4", "-q", "-F", "-L", "ledger", "-E", eager, "-d", tree, image)
    (tree / RECEIPTS).rmdir()
    tree.rmdir()
    return image


class MountedDisk:
    """The ledger works on the disk itself, through a loop mount (root only)."""

    def __init__(self, image: Path) -> None:
        self.image = image
        self._folder = image.parent / _MOUNT_FOLDER
        self.database = self._folder / LEDGER
        self._folder.mkdir()
        programs.run("mount", "-o", "loop,noatime", image, self._folder)
        ledger.create(self.database)

    def add_receipt(self, name: str, content: bytes) -> None:
        (self._folder / RECEIPTS / name).write_bytes(content)

    @contextmanager
    def still(self) -> Iterator[Statement]:
        """A frozen file system has everything on its disk and its journal empty; only the ledger waits."""
        with ledger.held(self.database) as statement, _frozen(self._folder):
            yield statement

    def close(self) -> None:
        programs.run("umount", self._folder)
        self._folder.rmdir()


@contextmanager
def _frozen(folder: Path) -> Iterator[None]:
    """Freeze a file system. A guardian thaws it when this process lets go, or dies."""
    fsfreeze = programs.find("fsfreeze")
    if fsfreeze is None:
        raise DemoError("fsfreeze is not installed")
    with subprocess.Popen(
        ["sh", "-c", _THAW_WHEN_RELEASED, "sh", fsfreeze, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C must not reach it before its time
    ) as guardian:
        assert guardian.stdout is not None
        guardian.stdout.readline()
        programs.run("fsfreeze", "--freeze", folder)
        yield
    if guardian.returncode:
        raise DemoError(f"{folder} could not be thawed; try: fsfreeze --unfreeze {folder}")


def release_leftovers(folder: Path) -> None:
    """Unmount what a demo that was killed left mounted."""
    mounted = folder / _MOUNT_FOLDER
    if mounted.is_mount():
        programs.run("umount", mounted)


class CopiedDisk:
    """The ledger works in a folder beside the disk and is copied into it while it is held."""

    def __init__(self, image: Path) -> None:
        self.image = image
        self._folder = image.parent / "ledger-at-work"
        self.database = self._folder / LEDGER
        self._folder.mkdir()
        ledger.create(self.database)
        self._write(self.database, f"/{LEDGER}")

    def add_receipt(self, name: str, content: bytes) -> None:
        source = self._folder / name
        source.write_bytes(content)
        self._write(source, f"/{RECEIPTS}/{name}")
        source.unlink()

    @contextmanager
    def still(self) -> Iterator[Statement]:
        with ledger.held(self.database) as statement:
            programs.run("debugfs", "-w", "-R", f"rm /{LEDGER}", self.image)
            self._write(self.database, f"/{LEDGER}")
            yield statement

    def close(self) -> None:
        """Nothing is mounted."""

    def _write(self, source: Path, path: str) -> None:
        """Copy a file into the image and compare: debugfs does not say by its exit code that it failed.

        By programs, never by this process: POSIX takes away a process's locks on a file, the ledger's too, as
        soon as it closes any descriptor of that file.
        """
        programs.run("debugfs", "-w", "-R", f'write "{source}" {path}', self.image)
        written = self._folder / "written"
        programs.run("debugfs", "-R", f'dump {path} "{written}"', self.image)
        programs.run("cmp", source, written)
        written.unlink()


def may_mount(folder: Path) -> bool:
    """Try it: in a container even root may not."""
    image, mounted = folder / "probe.raw", folder / "probe"
    mounted.mkdir()
    try:
        with image.open("wb") as file:
            file.truncate(8 << 20)
        programs.run("mkfs.ext4", "-q", "-F", image)
        programs.run("mount", "-o", "loop", image, mounted)
        programs.run("umount", mounted)
    except DemoError:
        return False
    else:
        return True
    finally:
        image.unlink()
        mounted.rmdir()
