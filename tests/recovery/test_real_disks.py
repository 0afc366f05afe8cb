"""Disks that a Linux guest of Hyper-V wrote; the hashes are those published with the disks."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
from pathlib import Path

import pytest

from stillframe.disk.open import open_disk
from stillframe.recovery.files import DiskFiles, find, read_pieces, walk
from stillframe.recovery.filesystems.interface import EntryKind
from stillframe.recovery.kernels import Through, opener
from tests.tools import need, need_root

DISKS = Path(__file__).parent.parent / "data" / "disks"


def unpacked(name: str, folder: Path) -> Path:
    target = folder / name
    with gzip.open(DISKS / f"{name}.gz") as packed, target.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return target


def test_xfs_version_4_on_a_partition(tmp_path: Path) -> None:
    disk = open_disk(unpacked("linux-xfs.vhdx", tmp_path))
    files = DiskFiles(disk)
    expected = {
        "file.100": "620f0b67a91f7f74151bc5be745b7110",
        "file.random": "9a202a11d6e87688591eb97714ed56f1",
    }
    for name, digest in expected.items():
        found = files.locate(f"/p1/folder/{name}")
        assert found is not None
        hashed = hashlib.md5()
        for piece in read_pieces(found):
            hashed.update(piece)
        assert hashed.hexdigest() == digest
    root = files.locate("/p1")
    assert root is not None
    problems: list[str] = []
    names = {path for path, _ in walk(root, problems.append)}
    assert {f"folder/file.{number}" for number in range(1, 1001)} <= names
    assert {f"huge/{number}" for number in range(1, 1000)} <= names
    assert problems == []
    files.close()
    disk.close()


@pytest.mark.integration
@pytest.mark.parametrize("through", [Through.PARSER, Through.HOST_KERNEL])
def test_btrfs_through_a_kernel(through: Through, tmp_path: Path) -> None:
    if through is Through.PARSER:
        need("qemu-system-x86_64")
    else:
        need_root()
    disk = open_disk(unpacked("linux-btrfs.vhdx", tmp_path))
    with opener(through) as open_volume:
        files = DiskFiles(disk, open_volume)
        root = files.locate("/" if files.is_whole_disk else f"/{files.volumes[0].name}")
        assert root is not None
        problems: list[str] = []
        checked = 0
        for path, entry in find(root, "*folder/subfolder/*", problems.append):
            named_by_hash = re.match(r"[0-9a-fA-F]{32}", entry.name)
            if entry.kind is not EntryKind.FILE or not named_by_hash:
                continue
            found = files.locate(f"{'' if files.is_whole_disk else files.volumes[0].name}/{path}")
            assert found is not None
            digest = hashlib.md5(b"".join(bytes(piece) for piece in read_pieces(found))).hexdigest()
            assert digest == named_by_hash[0].lower()
            checked += 1
        assert (checked, problems) == (2, [])
        files.close()
    disk.close()
