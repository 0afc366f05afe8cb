"""A whole tree as a table of facts, by a parser and by the kernel, to be compared."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from stillframe.disk.still import Extent, ExtentKind
from stillframe.recovery.files import Found, walk
from stillframe.recovery.filesystems.interface import Entry, EntryKind, FileSystem
from stillframe.recovery.filesystems.unixlike import kind_of

Facts = dict[str, dict[str, object]]


def parsed(found: Found, *, with_times: bool = True) -> Facts:
    problems: list[str] = []
    facts = {
        path: _of_entry(found.file_system, entry, with_times) for path, entry in walk(found, problems.append)
    }
    assert problems == []
    return facts


def by_kernel(folder: Path, *, with_times: bool = True) -> Facts:
    facts: Facts = {}
    for parent, folders, names in os.walk(os.fsencode(folder)):
        for name in folders + names:
            path = os.path.join(parent, name)
            facts[os.fsdecode(os.path.relpath(path, os.fsencode(folder)))] = _of_path(path, with_times)
    return facts


def content(file_system: FileSystem, entry: Entry, stream: str = "") -> bytes:
    size = entry.size_bytes if not stream else next(s.size_bytes for s in entry.streams if s.name == stream)
    buffer = bytearray(size)
    file_system.read_into(entry, 0, memoryview(buffer), stream)
    return bytes(buffer)


def holes_are_zero(data: bytes, extents: Iterator[Extent]) -> bool:
    """Every extent follows the one before, ends at the size, and a hole reads as zeros."""
    position = 0
    for extent in extents:
        assert extent.offset_bytes == position
        position = extent.end_bytes
        if extent.kind is not ExtentKind.DATA and any(data[extent.offset_bytes : position]):
            return False
    return position == len(data)


def _of_entry(file_system: FileSystem, entry: Entry, with_times: bool) -> dict[str, object]:
    facts: dict[str, object] = {"kind": entry.kind, "mode": entry.mode, "owner": (entry.owner, entry.group)}
    facts["xattrs"] = file_system.xattrs(entry)
    if with_times:
        facts["times"] = (entry.times.modified_ns, entry.times.changed_ns)
    if entry.kind is EntryKind.FILE:
        data = content(file_system, entry)
        assert holes_are_zero(data, file_system.extents(entry))
        facts["data"] = hashlib.sha256(data).hexdigest()
        facts["linked"] = entry.link_key is not None
    if entry.kind is EntryKind.SYMLINK:
        facts["target"] = file_system.symlink_target(entry)
    return facts


def _of_path(path: bytes, with_times: bool) -> dict[str, object]:
    status = os.lstat(path)
    kind = kind_of(status.st_mode)
    facts: dict[str, object] = {"kind": kind, "mode": stat.S_IMODE(status.st_mode)}
    facts["owner"] = (status.st_uid, status.st_gid)
    # XFS lists its access lists a second time, as it keeps them.
    names = [name for name in os.listxattr(path, follow_symlinks=False) if "SGI_ACL" not in name]
    facts["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    if with_times:
        facts["times"] = (status.st_mtime_ns, status.st_ctime_ns)
    if kind is EntryKind.FILE:
        facts["data"] = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
        facts["linked"] = status.st_nlink > 1
    if kind is EntryKind.SYMLINK:
        facts["target"] = os.fsdecode(os.readlink(path))
    return facts
