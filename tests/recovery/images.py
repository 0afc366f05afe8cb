"""Disks and file systems made for a test, by the tools that really make them."""

from __future__ import annotations

import os
import struct
import subprocess
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillframe.disk.still import Extent, Geometry
from tests.tools import need, need_root


class BytesDisk:
    """A still disk in memory."""

    token = None

    def __init__(self, data: bytes | bytearray, sector_bytes: int = 512) -> None:
        self._data = bytes(data)
        self.disk_id = "memory"
        self.geometry = Geometry(len(data), sector_bytes, sector_bytes)

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, len(self._data))

    def changed(self, since: str) -> Iterator[Extent]:
        raise NotImplementedError

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        if offset_bytes + len(buffer) > len(self._data):
            raise ValueError("outside")
        buffer[:] = self._data[offset_bytes : offset_bytes + len(buffer)]

    def close(self) -> None:
        pass


def run(*command: str | Path) -> str:
    """Run a tool that a test needs (skipped, or failed in the gate, without it)."""
    program = need(str(command[0]))
    done = subprocess.run([program, *map(str, command[1:])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def make(path: Path, size_bytes: int, *command: str | Path) -> Path:
    """A sparse file of a size, formatted by a command that gets its path as last argument."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    run(*command, path)
    return path


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    need_root()
    device = run("losetup", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        # Only now is the last write in the file; udev may hold the device for an instant.
        subprocess.run(["losetup", "--detach", device], check=False)


@contextmanager
def mounted(image: Path, folder: Path, options: str = "rw") -> Iterator[Path]:
    """The kernel's own view of an image."""
    need_root()
    folder.mkdir(exist_ok=True)
    run("mount", "-o", f"loop,{options}", image, folder)
    try:
        yield folder
    finally:
        run("umount", folder)


@contextmanager
def fuse_mounted(image: Path, folder: Path, *command: str) -> Iterator[Path]:
    """ntfs-3g or exfat-fuse over a loop device, as they insist on block devices."""
    folder.mkdir(exist_ok=True)
    with loop_device(image) as device:
        run(*command, device, folder)
        try:
            yield folder
        finally:
            run("umount", folder)


def fill(folder: Path) -> None:
    """Files of every kind that a Unix file system knows."""
    etc = folder / "etc"
    (etc / "empty").mkdir(parents=True)
    (etc / "hostname").write_text("box\n")
    (etc / "hard").hardlink_to(etc / "hostname")
    (etc / "link").symlink_to("hostname")
    (etc / "long-link").symlink_to("/absolute/" + "y" * 200)
    (folder / "ünï-😀").write_text("unicode")
    (folder / "with blank\nand newline").write_text("odd")
    (folder / "random").write_bytes(os.urandom(3 << 20))
    _sparse(folder / "sparse")
    with (folder / "preallocated").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        os.pwrite(file.fileno(), b"P" * 4096, 8192)
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
    _fragment(folder / "fragment-a", folder / "fragment-b")
    many = folder / "many"
    many.mkdir()
    for number in range(1500):
        (many / f"file-{number:05d}-with-a-name-of-some-length").touch()
    _metadata(folder)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"A" * 4096)
        os.pwrite(file.fileno(), b"B" * 5000, 5 << 20)
        file.truncate(20 << 20)


def _fragment(first: Path, second: Path) -> None:
    """Two files whose blocks alternate."""
    with first.open("wb") as a, second.open("wb") as b:
        for number in range(100):
            for file in (a, b):
                file.write(bytes([number]) * 4096)
                file.flush()
                os.fdatasync(file.fileno())


def _metadata(folder: Path) -> None:
    hostname = folder / "etc" / "hostname"
    os.setxattr(hostname, "user.note", b"hello\0world")
    os.setxattr(hostname, "user.long", b"L" * 1500)
    os.setxattr(hostname, "trusted.mine", b"t")
    os.setxattr(folder / "etc", "user.of-folder", b"d")
    odd = folder / "with blank\nand newline"
    os.setxattr(odd, "system.posix_acl_access", access_list())
    os.setxattr(folder / "many", "system.posix_acl_default", access_list())
    os.chown(odd, 1234, 70000)
    os.chmod(folder / "random", 0o4751)
    os.utime(odd, ns=(1_234_567_890_123_456_789, -5 * 10**9 + 7))


def access_list() -> bytes:
    """user::rwx, user:1000:r-x, group::r--, mask::rwx, other::---"""
    rules = [(1, 7, 0xFFFFFFFF), (2, 5, 1000), (4, 4, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *rule) for rule in rules)


def mbr(entries: list[tuple[int, int, int]], sector_bytes: int = 512) -> bytes:
    """A partition sector: type, start, length of up to four entries."""
    sector = bytearray(sector_bytes)
    for number, (kind, start, length) in enumerate(entries):
        struct.pack_into("<B3xB3xII", sector, 446 + 16 * number, 0, kind, start, length)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def put_gpt(disk: bytearray, partitions: dict[int, tuple[int, int]], sector_bytes: int = 512) -> None:
    """Write a GPT with both copies: entry number (from 1) to first and last sector."""
    sectors = len(disk) // sector_bytes
    entries = bytearray(128 * 128)
    for number, (first, last) in partitions.items():
        struct.pack_into(
            "<16s16sQQQ",
            entries,
            128 * (number - 1),
            LINUX_DATA.bytes_le,
            uuid.uuid4().bytes_le,
            first,
            last,
            0,
        )
    table_sectors = len(entries) // sector_bytes
    disk[:sector_bytes] = mbr([(0xEE, 1, sectors - 1)], sector_bytes)
    for here, there, table in ((1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - table_sectors)):
        disk[table * sector_bytes : table * sector_bytes + len(entries)] = entries
        header = _gpt_header(here, there, table, sectors, table_sectors, zlib.crc32(entries))
        disk[here * sector_bytes : here * sector_bytes + len(header)] = header


def _gpt_header(here: int, there: int, table: int, sectors: int, table_sectors: int, crc: int) -> bytes:
    def packed(own_crc: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            *(b"EFI PART", 0x10000, 92, own_crc, 0, here, there, 2 + table_sectors),
            *(sectors - table_sectors - 2, uuid.UUID(int=1).bytes_le, table, 128, 128, crc),
        )

    return packed(zlib.crc32(packed(0)))
