"""Files of a disk: found by path across its volumes, listed, searched and read.

A path begins with the name of a volume (``/p1/etc/hostname``) where the disk has a partition table or LVM2,
and with the root of the file system where it has neither. Symbolic links are never followed.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stillframe.disk.still import StillDisk
from stillframe.errors import StillframeError, UsageError
from stillframe.recovery.filesystems.interface import Entry, EntryKind, FileSystem, stream_size
from stillframe.recovery.filesystems.opening import open_file_system
from stillframe.recovery.filesystems.readers import MAX_READ_BYTES
from stillframe.recovery.filesystems.volumes import Volume, is_whole_disk, open_volumes

Opener = Callable[[Volume], FileSystem]


class NotFoundError(StillframeError):
    """A path names nothing on the disk."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file or directory on a volume; ``path`` leads to it from the root of its file system."""

    volume: Volume
    file_system: FileSystem
    entry: Entry
    path: str
    stream: str = ""

    @property
    def name(self) -> str:
        """Its own name; a volume's root is called after the volume."""
        if self.path == "/":
            return self.volume.name.removeprefix("lvm:").replace("/", "-")
        return f"{self.entry.name}:{self.stream}" if self.stream else self.entry.name

    @property
    def size_bytes(self) -> int:
        return stream_size(self.entry, self.stream)


class DiskFiles:
    """The volumes of one disk and the file systems on them, each opened when first asked for."""

    def __init__(self, disk: StillDisk, opener: Opener = open_file_system) -> None:
        self._opener = opener
        self._opened: dict[str, FileSystem] = {}
        self.volumes = open_volumes(disk)
        self.is_whole_disk = is_whole_disk(self.volumes)

    def file_system(self, volume: Volume) -> FileSystem:
        if volume.name not in self._opened:
            self._opened[volume.name] = self._opener(volume)
        return self._opened[volume.name]

    def close(self) -> None:
        for file_system in self._opened.values():
            file_system.close()
        self._opened.clear()

    def locate(self, path: str) -> Found | None:
        """What a path names; None for the root of a disk that has volumes.

        Raises:
            NotFoundError: there is no such volume or file.
            UnsupportedError: the volume's file system cannot be read.
        """
        parts = _components(path)
        if self.is_whole_disk:
            return self._within(self.volumes[0], parts)
        if not parts:
            return None
        for volume in self.volumes:
            own = volume.name.split("/")
            if parts[: len(own)] == own:
                return self._within(volume, parts[len(own) :])
        names = ", ".join(volume.name for volume in self.volumes)
        raise NotFoundError(f"/{'/'.join(parts)}: names no volume of this disk", hint=f"Volumes: {names}")

    def _within(self, volume: Volume, parts: list[str]) -> Found:
        file_system = self.file_system(volume)
        entry, stream, walked = file_system.root(), "", ""
        for number, part in enumerate(parts, start=1):
            if entry.kind is EntryKind.SYMLINK:
                raise _link_in_the_way(file_system, entry, walked)
            if entry.kind is not EntryKind.DIRECTORY:
                raise NotFoundError(f"{volume.name}: {walked} is not a directory")
            is_last = number == len(parts)
            entry, stream = _step(file_system, entry, part, walked, with_streams=is_last)
            walked = f"{walked}/{entry.name}"
        return Found(volume, file_system, entry, walked or "/", stream)


def walk(found: Found, report: Callable[[str], None]) -> Iterator[tuple[str, Entry]]:
    """Everything below a directory, parents first, as path relative to it and entry.

    What cannot be read goes to ``report`` in words. A directory that is met a second time, as in a damaged or
    malicious file system whose directories run in a circle, is reported and not entered.
    """
    waiting = [("", found.entry)]
    entered: set[int] = set()
    while waiting:
        path, directory = waiting.pop()
        if directory.node in entered:
            report(f"{found.path.rstrip('/')}/{path}: is a directory that was listed already")
            continue
        entered.add(directory.node)
        below: list[tuple[str, Entry]] = []
        for entry in _list_reporting(found, path, directory, report):
            place = f"{path}/{entry.name}".lstrip("/")
            yield place, entry
            if entry.kind is EntryKind.DIRECTORY:
                below.append((place, entry))
        waiting += reversed(below)


def find(found: Found, pattern: str, report: Callable[[str], None]) -> Iterator[tuple[str, Entry]]:
    """Entries whose name, or whole path for a pattern with a slash, matches a shell pattern."""
    fold = str if found.file_system.info.case_sensitive else str.casefold
    wanted = fold(pattern.lstrip("/") if "/" in pattern else pattern)
    for path, entry in walk(found, report):
        if fnmatch.fnmatchcase(fold(path if "/" in pattern else entry.name), wanted):
            yield path, entry


def read_pieces(found: Found) -> Iterator[memoryview]:
    """The data of a file, or of the stream that was named, piece by piece; each is valid until the next.

    Raises:
        UsageError: it is not a file.
        CorruptInputError, UnsupportedError: its data cannot be read.
    """
    if found.entry.kind is EntryKind.SYMLINK:
        raise _link_in_the_way(found.file_system, found.entry, found.path)
    if found.entry.kind is not EntryKind.FILE and not found.stream:
        raise UsageError(f"{found.path}: is a {found.entry.kind}, not a file")
    buffer = bytearray(MAX_READ_BYTES)
    for offset_bytes in range(0, found.size_bytes, MAX_READ_BYTES):
        piece = memoryview(buffer)[: min(MAX_READ_BYTES, found.size_bytes - offset_bytes)]
        found.file_system.read_into(found.entry, offset_bytes, piece, found.stream)
        yield piece


def _components(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise UsageError(
            f"{path}: '..' has no meaning here", hint="Write the path from the root of the disk."
        )
    return parts


def _step(
    file_system: FileSystem, directory: Entry, name: str, walked: str, *, with_streams: bool
) -> tuple[Entry, str]:
    """One component down: the entry, and the stream where the last component names one."""
    listing = file_system.list(directory)
    entry = _choose(file_system, listing.entries, name)
    if entry:
        return entry, ""
    base, colon, stream = name.rpartition(":")
    if with_streams and colon and (entry := _choose(file_system, listing.entries, base)):
        for candidate in entry.streams:
            if candidate.name.casefold() == stream.casefold():
                return entry, candidate.name
    hint = "Some entries of the directory could not be read." if listing.problems else ""
    raise NotFoundError(f"{walked}/{name}: does not exist", hint=hint)


def _choose(file_system: FileSystem, entries: tuple[Entry, ...], name: str) -> Entry | None:
    for entry in entries:
        if entry.name == name:
            return entry
    if file_system.info.case_sensitive:
        return None
    folded = [entry for entry in entries if entry.name.casefold() == name.casefold()]
    return folded[0] if len(folded) == 1 else None


def _list_reporting(
    found: Found, path: str, directory: Entry, report: Callable[[str], None]
) -> tuple[Entry, ...]:
    try:
        listing = found.file_system.list(directory)
    except StillframeError as error:
        report(f"{found.path.rstrip('/')}/{path}: {error}")
        return ()
    for problem in listing.problems:
        report(problem)
    return listing.entries


def _link_in_the_way(file_system: FileSystem, link: Entry, walked: str) -> UsageError:
    target = file_system.symlink_target(link)
    return UsageError(f"{walked}: is a symbolic link to {target}", hint="Name the target itself.")
