"""Images copied while they were mounted: what waits in their journals, and who sees it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from stillframe.disk.open import open_disk
from stillframe.recovery.files import DiskFiles, walk
from stillframe.recovery.kernels import Through, opener
from tests.recovery import trees
from tests.recovery.images import make, mounted
from tests.tools import need, need_root

pytestmark = pytest.mark.integration

NAMES = {"recent", *(f"recent/f{number}" for number in range(20))}


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def dirty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crash: fsync put the files into the journal, and nothing wrote them back yet."""
    base = tmp_path_factory.mktemp("dirty")
    command = {"ext4": ("mke2fs", "-q", "-F", "-t", "ext4"), "xfs": ("mkfs.xfs", "-q", "-f")}[request.param]
    image = make(base / "image", 310 << 20, *command)
    with mounted(image, base / "mount") as folder:
        (folder / "recent").mkdir()
        for number in range(20):
            _write_through(folder / "recent" / f"f{number}", b"recent\n")
        _sync(folder / "recent")
        return Path(shutil.copy(image, base / "dirty"))


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, data)
    os.fsync(descriptor)
    os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def seen(image: Path, through: Through) -> tuple[set[str], bool | None]:
    """Names, and whether the file system says that its journal was not replayed."""
    before = image.stat().st_mtime_ns
    disk = open_disk(image)
    with opener(through) as open_volume:
        files = DiskFiles(disk, open_volume)
        found = files.locate("/")
        assert found is not None
        problems: list[str] = []
        entries = dict(walk(found, problems.append))
        for path, entry in entries.items():
            if path.startswith("recent/"):
                assert trees.content(found.file_system, entry) == b"recent\n"
        dirty = found.file_system.info.journal_dirty
        files.close()
    disk.close()
    assert image.stat().st_mtime_ns == before
    return set(entries) - {"lost+found"}, dirty


def test_a_parser_says_that_the_journal_was_not_replayed(dirty: Path) -> None:
    assert seen(dirty, Through.PARSER) == (set(), True)


def test_a_guest_replays_the_journal(dirty: Path) -> None:
    need("qemu-system-x86_64")
    assert seen(dirty, Through.GUEST) == (NAMES, False)


def test_the_hosts_kernel_replays_the_journal(dirty: Path) -> None:
    need_root()
    assert seen(dirty, Through.HOST_KERNEL) == (NAMES, False)
