"""Damaged images never crash the process, hang it, or raise anything but our own errors."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recovery.images import fuse_mounted, make, mounted, run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small image of each kind with the same files in it."""
    base = tmp_path_factory.mktemp("fuzz")
    tree = base / "tree"
    (tree / "docs" / "sub").mkdir(parents=True)
    (tree / "big").write_bytes(random.Random(5).randbytes(300_000))
    for number in range(60):
        (tree / "docs" / "sub" / f"file-{number}").write_text(str(number))
    return {
        "ext": make(base / "ext", 4 << 20, "mke2fs", "-q", "-F", "-t", "ext4", "-d", tree),
        "xfs": _xfs(base, tree),
        "ntfs": _ntfs(base, tree),
        "fat": _fat(base, tree),
    }


def _xfs(base: Path, tree: Path) -> Path:
    image = make(base / "xfs", 20 << 20, "mkfs.xfs", "-q", "-f", "--unsupported")
    with mounted(image, base / "mount") as folder:
        shutil.copytree(tree, folder, dirs_exist_ok=True)
        os.symlink("docs", folder / "link")
    return image


def _ntfs(base: Path, tree: Path) -> Path:
    image = make(base / "ntfs", 8 << 20, "mkntfs", "-F", "-Q", "-q")
    with fuse_mounted(image, base / "mount", "ntfs-3g", "-o", "streams_interface=windows") as folder:
        shutil.copytree(tree, folder, dirs_exist_ok=True)
        (folder / "big:stream").write_text("stream")
    return image


def _fat(base: Path, tree: Path) -> Path:
    image = make(base / "fat", 4 << 20, "mkfs.fat")
    run("mcopy", "-s", "-i", image, *tree.iterdir(), "::/")
    return image


def rounds(image: Path, first: int, count: int, timeout_s: int) -> None:
    command = [sys.executable, "-m", "tests.recovery.fuzzing", str(image), str(first), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    last = done.stdout.split()[-1:]
    assert done.returncode == 0, f"seed {last} ends with {done.returncode}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("kind", ["ext", "xfs", "ntfs", "fat"])
def test_a_damaged_image_gives_an_error_or_a_listing(kind: str, images: dict[str, Path]) -> None:
    rounds(images[kind], first=0, count=25, timeout_s=120)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["ext", "xfs", "ntfs", "fat"])
def test_many_damaged_images(kind: str, images: dict[str, Path]) -> None:
    first = random.SystemRandom().randrange(1 << 40)
    print("first seed", first)
    rounds(images[kind], first, count=5000, timeout_s=3600)
