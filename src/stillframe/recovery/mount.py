"""Shows disks as a read-only folder by FUSE: ``DISK.raw`` and ``DISK/VOLUME/...`` for each."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stillframe.disk.still import StillDisk
from stillframe.errors import StillframeError, UnsupportedError
from stillframe.recovery.files import DiskFiles
from stillframe.recovery.filesystems.interface import Entry, EntryKind, FileSystem
from stillframe.recovery.filesystems.readers import DiskReader
from stillframe.recovery.filesystems.volumes import Volume
from stillframe.recovery.fuse_server import load_fuse, serving

_KEPT_LISTINGS: Final = 1024
_TYPE_BITS: Final = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.SYMLINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.SOCKET: stat.S_IFSOCK,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
    EntryKind.OTHER: stat.S_IFREG,
}


@dataclass(frozen=True, slots=True)
class MountedDisk:
    """A disk under the name that the mount shows."""

    name: str
    disk: StillDisk
    files: DiskFiles


def mount(disks: list[MountedDisk], folder: Path, warn: Callable[[str], None]) -> None:
    """Serve until the folder is unmounted or the process is asked to end; the folder is free afterwards.

    Raises:
        UnsupportedError: FUSE or mfusepy is missing, or the folder cannot be mounted on.
    """
    operations = _operations(load_fuse(), Tree(disks, warn))
    with serving(operations, folder, ro=True) as server:
        server.wait()


@dataclass(frozen=True, slots=True)
class _Raw:
    """``DISK.raw``."""

    reader: DiskReader


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that is on no disk: the root, a disk, a volume group."""

    children: Mapping[str, _Node]


@dataclass(frozen=True, slots=True)
class _VolumeRoot:
    files: DiskFiles
    volume: Volume


@dataclass(frozen=True, slots=True)
class _Inside:
    """Something within a file system."""

    file_system: FileSystem
    entry: Entry


_Node = _Raw | _Folder | _VolumeRoot | _Inside


class Tree:
    """What each path of the mount means. Listings are kept for a while, as FUSE asks by whole paths."""

    def __init__(self, disks: list[MountedDisk], warn: Callable[[str], None]) -> None:
        children: dict[str, _Node] = {}
        for disk in disks:
            children[f"{disk.name}.raw"] = _Raw(DiskReader(disk.disk))
            children[disk.name] = _disk_node(disk.files)
        self._root = _Folder(children)
        self._warn = warn
        self._lock = threading.RLock()
        self._listings: OrderedDict[str, dict[str, Entry]] = OrderedDict()
        self._broken: dict[str, StillframeError] = {}

    def attributes(self, path: str) -> dict[str, int]:
        """``stat`` of a path, as FUSE takes it."""
        node = self._find(path)
        if isinstance(node, _Raw):
            return {"st_mode": stat.S_IFREG | 0o400, "st_nlink": 1, "st_size": node.reader.size_bytes}
        if isinstance(node, _Inside):
            return _attributes(node.entry)
        return {"st_mode": stat.S_IFDIR | 0o500, "st_nlink": 2}

    def names(self, path: str) -> list[str]:
        """Names in a folder that can be names here; others are left out and said."""
        node = self._find(path)
        if isinstance(node, _Folder):
            return list(node.children)
        if isinstance(node, _Raw):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return list(self._listing(path, node))

    def read(self, path: str, size_bytes: int, offset_bytes: int) -> bytes:
        node = self._find(path)
        if isinstance(node, _Raw):
            buffer = bytearray(max(0, min(size_bytes, node.reader.size_bytes - offset_bytes)))
            node.reader.read_into(offset_bytes, memoryview(buffer))
        elif isinstance(node, _Inside) and node.entry.kind is EntryKind.FILE:
            buffer = bytearray(max(0, min(size_bytes, node.entry.size_bytes - offset_bytes)))
            node.file_system.read_into(node.entry, offset_bytes, memoryview(buffer))
        else:
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return bytes(buffer)

    def link_target(self, path: str) -> str:
        node = self._find(path)
        if not isinstance(node, _Inside) or node.entry.kind is not EntryKind.SYMLINK:
            raise OSError(errno.EINVAL, "not a symbolic link", path)
        return node.file_system.symlink_target(node.entry)

    def xattrs(self, path: str) -> dict[str, bytes]:
        node = self._find(path)
        return node.file_system.xattrs(node.entry) if isinstance(node, _Inside) else {}

    def _find(self, path: str) -> _Node:
        node: _Node = self._root
        walked = ""
        for part in (part for part in path.split("/") if part):
            if isinstance(node, _Folder):
                child = node.children.get(part)
            elif isinstance(node, _Raw):
                child = None
            else:
                child = self._child(walked, node, part)
            if child is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            node, walked = child, f"{walked}/{part}"
        return node

    def _child(self, path: str, node: _VolumeRoot | _Inside, name: str) -> _Node | None:
        entry = self._listing(path, node).get(name)
        return None if entry is None else _Inside(self._file_system(node), entry)

    def _listing(self, path: str, node: _VolumeRoot | _Inside) -> dict[str, Entry]:
        with self._lock:
            if path not in self._listings:
                self._listings[path] = self._read_listing(path, node)
                if len(self._listings) > _KEPT_LISTINGS:
                    self._listings.popitem(last=False)
            self._listings.move_to_end(path)
            return self._listings[path]

    def _read_listing(self, path: str, node: _VolumeRoot | _Inside) -> dict[str, Entry]:
        file_system = self._file_system(node)
        directory = node.entry if isinstance(node, _Inside) else file_system.root()
        if directory.kind is not EntryKind.DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        listing = file_system.list(directory)
        for problem in listing.problems:
            self._warn(problem)
        return {entry.name: entry for entry in listing.entries if _is_name(entry.name)}

    def _file_system(self, node: _VolumeRoot | _Inside) -> FileSystem:
        """Opened at the first look; one that cannot be opened is said once and stays an error."""
        if isinstance(node, _Inside):
            return node.file_system
        with self._lock:
            name = node.volume.name
            if name in self._broken:
                raise self._broken[name]
            try:
                return node.files.file_system(node.volume)
            except StillframeError as error:
                self._broken[name] = error
                self._warn(str(error))
                raise


def _disk_node(files: DiskFiles) -> _Node:
    if files.is_whole_disk:
        return _VolumeRoot(files, files.volumes[0])
    children: dict[str, _Node] = {}
    groups: dict[str, dict[str, _Node]] = {}
    for volume in files.volumes:
        group, slash, name = volume.name.partition("/")
        if slash:
            groups.setdefault(group, {})[name] = _VolumeRoot(files, volume)
        else:
            children[group] = _VolumeRoot(files, volume)
    return _Folder(children | {group: _Folder(members) for group, members in groups.items()})


def _attributes(entry: Entry) -> dict[str, int]:
    mode = entry.mode if entry.mode is not None else 0o500 if entry.kind is EntryKind.DIRECTORY else 0o400
    times = entry.times
    return {
        "st_mode": _TYPE_BITS[entry.kind] | mode,
        "st_nlink": 1,
        "st_size": entry.size_bytes,
        "st_uid": os.geteuid() if entry.owner is None else entry.owner,
        "st_gid": os.getegid() if entry.group is None else entry.group,
        "st_mtime": times.modified_ns or 0,
        "st_atime": times.accessed_ns or times.modified_ns or 0,
        "st_ctime": times.changed_ns or times.modified_ns or 0,
    }


def _is_name(name: str) -> bool:
    return name not in {"", ".", ".."} and "/" not in name and "\0" not in name


def _operations(library: Any, tree: Tree) -> Any:
    """The callbacks of libfuse; the base class is only known once the library is loaded."""

    def answer(ask: Callable[..., Any]) -> Callable[..., Any]:
        def callback(_self: Any, *arguments: Any) -> Any:
            with _as_os_error(library):
                return ask(*arguments)

        return callback

    def getxattr(path: str, name: str, _position: int = 0) -> bytes:
        try:
            return tree.xattrs(path)[name]
        except KeyError:
            raise library.FuseOSError(errno.ENODATA) from None

    methods = {
        "use_ns": True,
        "getattr": answer(lambda path, _handle=None: tree.attributes(path)),
        "readdir": answer(lambda path, _handle: [".", "..", *tree.names(path)]),
        "read": answer(lambda path, size, offset, _handle: tree.read(path, size, offset)),
        "readlink": answer(tree.link_target),
        "listxattr": answer(lambda path: list(tree.xattrs(path))),
        "getxattr": answer(getxattr),
        "open": lambda _self, _path, _flags: 0,
        "statfs": lambda _self, _path: {"f_bsize": 4096, "f_namemax": 255},
    }
    return type("MountOperations", (library.Operations,), methods)()


@contextmanager
def _as_os_error(library: Any) -> Iterator[None]:
    try:
        yield
    except UnsupportedError as error:
        raise library.FuseOSError(errno.EOPNOTSUPP) from error
    except StillframeError as error:
        raise library.FuseOSError(errno.EIO) from error
