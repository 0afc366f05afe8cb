"""A file system mounted by this machine's own kernel, read-only, over a copy-on-write view. Needs root.

The kernel parses what a guest wrote, and a hostile file system can attack it: only done when asked for.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stillframe.disk.still import Extent, ExtentKind
from stillframe.errors import CorruptInputError, UnsupportedError
from stillframe.recovery.filesystems.interface import Entry, EntryKind, FileSystemInfo, Listing, Times
from stillframe.recovery.filesystems.unixlike import kind_of

# A journal is replayed by a read-only mount too, as long as the device below can be written.
_OPTIONS: Final = {
    "ext4": "ro,nosuid,nodev,noexec",
    "xfs": "ro,nosuid,nodev,noexec,nouuid",
    "btrfs": "ro,nosuid,nodev,noexec,subvolid=5",
}
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@contextmanager
def mounted(view: Path, kernel_name: str, volume: str) -> Iterator[Path]:
    """Mount a view for as long as the block runs.

    Raises:
        UnsupportedError: not root.
        CorruptInputError: the kernel refuses to mount it.
    """
    if os.geteuid() != 0:
        raise UnsupportedError(
            "--host-kernel needs root", hint="Without root, leave it out: a guest is used."
        )
    with _loop_device(view) as device, tempfile.TemporaryDirectory(prefix="stillframe-mount-") as folder:
        _run(
            f"{volume}: this machine's kernel cannot mount it",
            "mount",
            "-t",
            kernel_name,
            "-o",
            _OPTIONS[kernel_name],
            device,
            folder,
        )
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=False, capture_output=True)


@contextmanager
def _loop_device(view: Path) -> Iterator[str]:
    """A loop device that can be written: `mount -o loop,ro` makes one that cannot."""
    device = _run("no loop device can be had", "losetup", "--find", "--show", str(view)).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


def _run(failure: str, *command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CorruptInputError(
            f"{failure}: {done.stderr.strip().splitlines()[0] if done.stderr else 'no reason given'}"
        )
    return done.stdout


class MountedFileSystem:
    """Reads below a folder. Paths are built of names the kernel listed, and the mount does not change."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._lock = threading.Lock()
        self._paths = [os.fspath(folder)]
        self._nodes = {self._paths[0]: 0}
        self.info = FileSystemInfo(kind, "", journal_dirty=False)

    def root(self) -> Entry:
        return self._entry("", self._paths[0])

    def list(self, directory: Entry) -> Listing:
        path = self._paths[directory.node]
        entries: list[Entry] = []
        problems: list[str] = []
        with _reading(directory.name):
            names = os.listdir(path)
        for name in names:
            try:
                entries.append(self._entry(name, f"{path}/{name}"))
            except OSError as error:
                problems.append(f"{name}: {error.strerror}")
        return Listing(tuple(entries), tuple(problems))

    def read_into(self, file: Entry, offset_bytes: int, buffer: memoryview, stream: str = "") -> None:
        del stream
        if offset_bytes < 0 or offset_bytes + len(buffer) > file.size_bytes:
            raise ValueError(f"{file.name}: {len(buffer)} bytes at {offset_bytes} leave the file")
        with self._opened(file) as descriptor:
            done = 0
            while done < len(buffer):
                count = os.preadv(descriptor, [buffer[done:]], offset_bytes + done)
                if not count:
                    raise CorruptInputError(f"{file.name}: ends at {offset_bytes + done}")
                done += count

    def extents(self, file: Entry, stream: str = "") -> Iterator[Extent]:
        del stream
        with self._opened(file) as descriptor:
            return iter(list(_extents(descriptor, file.size_bytes)))

    def symlink_target(self, link: Entry) -> str:
        with _reading(link.name):
            return os.readlink(self._paths[link.node])

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        path = self._paths[entry.node]
        with _reading(entry.name):
            names = os.listxattr(path, follow_symlinks=False)
            return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}

    def close(self) -> None:
        pass

    def _entry(self, name: str, path: str) -> Entry:
        status = os.lstat(path)
        kind = kind_of(status.st_mode)
        shared = kind is not EntryKind.DIRECTORY and status.st_nlink > 1
        return Entry(
            name=name,
            node=self._node(path),
            kind=kind,
            size_bytes=status.st_size if kind is EntryKind.FILE else 0,
            times=Times(status.st_mtime_ns, status.st_atime_ns, status.st_ctime_ns),
            mode=stat.S_IMODE(status.st_mode),
            owner=status.st_uid,
            group=status.st_gid,
            link_key=f"{status.st_dev}:{status.st_ino}" if shared else None,
        )

    def _node(self, path: str) -> int:
        with self._lock:
            if path not in self._nodes:
                self._nodes[path] = len(self._paths)
                self._paths.append(path)
            return self._nodes[path]

    @contextmanager
    def _opened(self, file: Entry) -> Iterator[int]:
        with _reading(file.name):
            descriptor = os.open(self._paths[file.node], _READ)
            try:
                yield descriptor
            finally:
                os.close(descriptor)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CorruptInputError(f"{name or '/'}: the kernel cannot read it: {error.strerror}") from error


def _extents(descriptor: int, size_bytes: int) -> Iterator[Extent]:
    position = 0
    while position < size_bytes:
        try:
            start = min(os.lseek(descriptor, position, os.SEEK_DATA), size_bytes)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            start = size_bytes
        if start > position:
            yield Extent(position, start - position, ExtentKind.ZERO)
        position = min(os.lseek(descriptor, start, os.SEEK_HOLE), size_bytes) if start < size_bytes else start
        if position > start:
            yield Extent(start, position - start)
