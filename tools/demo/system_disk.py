"""The machine's first disk: a dynamic VHDX with ext4, and a guest that writes at known places."""

from __future__ import annotations

import os
import random
import re
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tools.demo import programs
from tools.demo.errors import DemoError
from tools.demo.sizes import Sizes

WRITE_BYTES = 64 * 1024
INDEX_PATH = "/srv/search.index"

_BLOCK_BYTES = 4096
_EVERY = 4  # thousands of files take long to make on a slow disk, and show no more
_EXTENT = re.compile(r"(\d+) - +(\d+) +(\d+) - +(\d+) +(\d+)")  # logical, physical, length, in blocks

Range = tuple[int, int]
"""Offset and length in bytes."""


class SystemDisk:
    """``system.vhdx`` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "system.vhdx"
        self._folder = folder
        self._index_ranges: list[Range] = []

    def build(self, sizes: Sizes) -> None:
        """Make the disk: programs and libraries as they come, and a search index that the guest writes to."""
        tree, raw = self._folder / "system-tree", self._folder / "system.raw"
        _copy_programs(tree / "opt", sizes.programs_bytes)
        _write_search_index(tree / INDEX_PATH.lstrip("/"), sizes.search_index_bytes)
        with raw.open("wb") as file:
            file.truncate(sizes.system_disk_bytes)
        programs.run("mkfs.ext4", "-q", "-F", "-L", "system", "-b", str(_BLOCK_BYTES), "-d", tree, raw)
        shutil.rmtree(tree)
        self._index_ranges = _places_of(INDEX_PATH, raw)
        self._to_vhdx(raw)
        raw.unlink()

    def _to_vhdx(self, raw: Path) -> None:
        """By QEMU where it is installed, so that Stillframe reads what another program wrote."""
        if programs.find("qemu-img"):
            programs.run("qemu-img", "convert", "-f", "raw", "-O", "vhdx", raw, self.image)
        else:
            programs.run("stillframe", "disk", "convert", raw, self.image)

    def write_scattered(self, count: int) -> list[Range]:
        """Write random data into the search index, as a guest would: by QEMU, into the VHDX.

        The places are what a hypervisor's change tracking reports. None without ``qemu-io``.
        """
        if programs.find("qemu-io") is None:
            return []
        chosen = sorted(random.Random(2).sample(_pieces(self._index_ranges), count))
        data = self._folder / "guest-writes"
        data.mkdir()
        commands: list[str] = []
        for number, (offset, length) in enumerate(chosen):
            source = data / f"{number}"
            source.write_bytes(os.urandom(length))
            commands += ["-c", f"write -s {source.relative_to(self._folder)} {offset} {length}"]
        programs.run("qemu-io", "-f", "vhdx", *commands, self.image.name, folder=self._folder)
        shutil.rmtree(data)
        return chosen


def _copy_programs(target: Path, limit_bytes: int) -> None:
    """Fill a folder with this Python's packages: some of their files, large and small, until it is enough."""
    source = Path(sysconfig.get_path("platlib"))
    files = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    left_bytes = limit_bytes
    for path in sorted(files)[::_EVERY]:
        size_bytes = path.stat().st_size
        if size_bytes <= left_bytes:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
            left_bytes -= size_bytes


def _write_search_index(path: Path, length_bytes: int) -> None:
    """Numbers that compress to about a half, as those of an index do."""
    source = random.Random(1)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for _ in range(length_bytes >> 20):
            file.write(source.randbytes(1 << 19).hex().encode())


def _places_of(path: str, image: Path) -> list[Range]:
    """Where on the disk a file lies, by debugfs's word."""
    listed = programs.run("debugfs", "-R", f"dump_extents -l {path}", image)
    found = [[int(number) for number in each.groups()] for each in _EXTENT.finditer(listed)]
    if not found:
        raise DemoError(f"debugfs cannot say where {path} lies: {listed}")
    return [(physical * _BLOCK_BYTES, length * _BLOCK_BYTES) for _, _, physical, _, length in found]


def _pieces(ranges: Sequence[Range]) -> list[Range]:
    return [
        (place, WRITE_BYTES)
        for offset, length in ranges
        for place in range(offset, offset + length - WRITE_BYTES + 1, WRITE_BYTES)
    ]
