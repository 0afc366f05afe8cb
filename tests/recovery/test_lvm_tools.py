"""LVM2 metadata written by LVM2 itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from stillframe.disk.open import open_disk
from stillframe.recovery.files import DiskFiles, read_pieces
from tests.recovery.images import loop_device, make, run

pytestmark = pytest.mark.integration


def test_volumes_that_lvm_made_extended_and_striped(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    with loop_device(image) as device:
        config = f'global{{activation=0}}devices{{filter=["a|{device}|","r|.*|"] use_devicesfile=0}}'
        options = ("-q", "--config", config)
        run("pvcreate", *options, device)
        run("vgcreate", *options, "vg0", device)
        for name, size in (("root", "16M"), ("data", "8M")):
            run("lvcreate", *options, "-y", "-an", "-Zn", "-Wn", "-L", size, "-n", name, "vg0")
        run("lvextend", *options, "-L", "32M", "vg0/root")
        places = run(
            *("pvs", *options, "--noheadings", "--units", "b", "--nosuffix", "--segments"),
            *("-o", "lv_name,seg_start,pvseg_start,pvseg_size,vg_extent_size,pe_start", device),
        )
    content = random.Random(3).randbytes(3 << 20)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(content)
    system = make(tmp_path / "ext4", 32 << 20, "mke2fs", "-q", "-F", "-t", "ext4", "-d", tree)
    _copy_into(system.read_bytes(), image, [line.split() for line in places.splitlines()])
    disk = open_disk(image)
    files = DiskFiles(disk)
    assert [v.name for v in files.volumes] == ["disk", "lvm:vg0/root", "lvm:vg0/data"]
    found = files.locate("/lvm:vg0/root/file")
    assert found is not None
    assert b"".join(bytes(piece) for piece in read_pieces(found)) == content
    files.close()
    disk.close()


def _copy_into(system: bytes, image: Path, places: list[list[str]]) -> None:
    """Lay a file system where LVM says that the volume ``root`` lies."""
    with image.open("r+b") as file:
        for place in (place for place in places if place[0] == "root"):
            start, first, count, extent, pe_start = (int(word) for word in place[1:])
            file.seek(pe_start + first * extent)
            file.write(system[start : start + count * extent])
