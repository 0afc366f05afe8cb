"""The guest's initial file system: busybox, the modules it needs and its init, as a newc cpio archive.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import lzma
import re
import stat
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Final

from stillframe.errors import UnsupportedError

_DRIVERS: Final = ("virtio_pci", "virtio_blk", "virtio_console")
_CHECKSUMS: Final = (
    "crc32c_generic",
    "crc32c_intel",
)  # asked for by name at run time, so no dependency says it
_MODULE: Final = re.compile(r"(.+)\.ko(\.xz|\.zst)?")
_DEPENDS: Final = re.compile(rb"(?:^|\0)depends=([^\0]*)\0")


def build(busybox: Path, modules: Path, file_system: str) -> bytes:
    """The archive for a guest that reads one kind of file system; ``modules`` is ``/lib/modules/VERSION``."""
    chosen = _with_dependencies(modules, (*_DRIVERS, *_CHECKSUMS, file_system))
    archive = _Archive()
    for folder in ("bin", "dev", "proc", "sys", "tmp", "modules", "volume"):
        archive.folder(folder)
    archive.device("dev/console", major=5, minor=1)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.file("init", files(__package__).joinpath("init.sh").read_bytes(), 0o755)
    for name, data in chosen.items():
        archive.file(f"modules/{name}", data, 0o644)
    archive.file("modules/order", "".join(f"{name}\n" for name in chosen).encode(), 0o644)
    return archive.finish()


def _with_dependencies(modules: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    """Modules by file name, each after those it needs; one that is built into the kernel has no file."""
    known = {
        _plain(match[1]): path
        for path in modules.rglob("*.ko*")
        if (match := _MODULE.fullmatch(path.name)) is not None
    }
    chosen: dict[str, bytes] = {}

    def add(name: str) -> None:
        path = known.get(_plain(name))
        if path is None or f"{_plain(name)}.ko" in chosen:
            return
        data = _decompressed(path)
        depends = _DEPENDS.search(data)
        for dependency in depends[1].decode().split(",") if depends else ():
            add(dependency)
        chosen[f"{_plain(name)}.ko"] = data

    for name in wanted:
        add(name)
    return chosen


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _decompressed(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        raise UnsupportedError(
            f"{path}: kernel modules compressed with zstd are not supported for the guest",
            hint="Let the guest's own kernel be fetched: unset STILLFRAME_GUEST_KERNEL.",
        )
    return data


class _Archive:
    """Writes newc records."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def folder(self, name: str) -> None:
        self._record(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int) -> None:
        self._record(name, stat.S_IFREG | mode, data)

    def device(self, name: str, *, major: int, minor: int) -> None:
        self._record(name, stat.S_IFCHR | 0o600, b"", major, minor)

    def finish(self) -> bytes:
        self._record("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _record(self, name: str, mode: int, data: bytes, major: int = 0, minor: int = 0) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [_padded(header + encoded), _padded(data)]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
