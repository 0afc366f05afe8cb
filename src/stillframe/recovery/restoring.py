"""Restores files and folders out of a disk into a folder of this machine, with their metadata, contained."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stillframe.disk.still import ExtentKind
from stillframe.errors import StillframeError, UsageError
from stillframe.progress import Progress
from stillframe.recovery import containment, metadata
from stillframe.recovery.files import Found, walk
from stillframe.recovery.filesystems.interface import Entry, EntryKind, FileSystem, stream_size
from stillframe.recovery.filesystems.readers import MAX_READ_BYTES

_FATAL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


class RestoreError(StillframeError):
    """The target cannot take any more."""


@dataclass(slots=True)
class RestoreReport:
    """What was restored and what was not. ``problems`` are files that are missing from the target."""

    files: int = 0
    directories: int = 0
    links: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    lost: metadata.Lost = field(default_factory=metadata.Lost)


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """``replace``: what has the name of something restored may be replaced; folders are merged."""

    replace: bool = False
    streams: bool = True


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One thing a restore would make: its path below the target and its size."""

    path: str
    size_bytes: int


def plan(sources: Sequence[Found], report: Callable[[str], None]) -> Iterator[PlannedItem]:
    """What a restore of these would make, parents first."""
    for found in sources:
        yield PlannedItem(found.name, found.size_bytes)
        if found.entry.kind is EntryKind.DIRECTORY and not found.stream:
            for path, entry in walk(found, report):
                yield PlannedItem(f"{found.name}/{path}", entry.size_bytes)


def restore(
    sources: Sequence[Found], target: Path, options: RestoreOptions, progress: Progress
) -> RestoreReport:
    """Restore each source under its own name below ``target``.

    Raises:
        UsageError: two sources have one name, or a name is taken and may not be replaced; nothing is written.
        RestoreError: the target is full or broken.
    """
    _require_distinct(sources)
    report = RestoreReport()
    try:
        with containment.target_folder(target, create=True) as folder:
            _require_free(sources, folder, target, options)
            for found in sources:
                _TreeRestore(found, folder, options, progress, report).run()
    except OSError as error:
        raise RestoreError(f"{target}: cannot be written: {error.strerror}") from error
    return report


def _require_distinct(sources: Sequence[Found]) -> None:
    seen: set[str] = set()
    for found in sources:
        if found.name in seen:
            raise UsageError(f"two of the files to restore are called {found.name}", hint="Use two folders.")
        seen.add(found.name)


def _require_free(sources: Sequence[Found], folder: int, target: Path, options: RestoreOptions) -> None:
    for found in sources:
        if not options.replace and containment.exists(folder, found.name):
            raise UsageError(f"{target / found.name}: exists already", hint="--force replaces it.")


class _TreeRestore:
    """One source: a file, or a directory with all that is below."""

    def __init__(
        self, found: Found, folder: int, options: RestoreOptions, progress: Progress, report: RestoreReport
    ) -> None:
        self._found = found
        self._file_system: FileSystem = found.file_system
        self._folder = folder
        self._options = options
        self._progress = progress
        self._report = report
        self._linked: dict[str, tuple[str, ...]] = {}  # link key: where the first name of the file was made
        self._folders: list[tuple[tuple[str, ...], Entry]] = []  # to be given their metadata at the end
        self._refused: set[tuple[str, ...]] = set()

    def run(self) -> None:
        self._attempt((self._found.name,), self._found.entry)
        if self._found.entry.kind is EntryKind.DIRECTORY and not self._found.stream:
            for path, entry in walk(self._found, self._report.problems.append):
                self._attempt((self._found.name, *path.split("/")), entry)
        for components, entry in reversed(self._folders):
            self._finish_folder(components, entry)

    def _attempt(self, components: tuple[str, ...], entry: Entry) -> None:
        """Restore one entry; what goes wrong with it alone becomes a problem, and the work goes on."""
        if components[:-1] in self._refused:
            self._refused.add(components)
            return
        try:
            with containment.subfolder(self._folder, components[:-1]) as folder:
                self._make(folder, components, entry)
        except (StillframeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FATAL:
                raise
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._report.problems.append(f"{'/'.join(components)}: {reason}")
            if entry.kind is EntryKind.DIRECTORY:
                self._refused.add(components)

    def _make(self, folder: int, components: tuple[str, ...], entry: Entry) -> None:
        name = containment.require_component(components[-1])
        if self._found.stream:
            self._make_stream(folder, name, entry, self._found.stream)
        elif entry.link_key in self._linked:
            self._make_hard_link(folder, name, self._linked[entry.link_key or ""])
        elif entry.kind is EntryKind.DIRECTORY:
            self._make_folder(folder, components, entry)
        elif entry.kind is EntryKind.FILE:
            self._make_file(folder, components, entry)
        elif entry.kind is EntryKind.SYMLINK:
            self._make_symlink(folder, components, entry)
        elif entry.kind is EntryKind.FIFO:
            self._make_fifo(folder, components, entry)
        else:
            raise containment.RefusedNameError(f"is a {entry.kind}; devices and sockets are not restored")

    def _make_folder(self, folder: int, components: tuple[str, ...], entry: Entry) -> None:
        containment.make_folder(folder, components[-1], replace=self._options.replace)
        self._folders.append((components, entry))
        self._report.directories += 1
        self._make_streams(folder, components[-1], entry)

    def _make_file(self, folder: int, components: tuple[str, ...], entry: Entry) -> None:
        xattrs = self._xattrs(components, entry)
        with containment.new_file(folder, components[-1], replace=self._options.replace) as descriptor:
            self._copy(entry, "", descriptor)
            metadata.apply_to_descriptor(entry, xattrs, descriptor, self._report.lost)
        self._report.files += 1
        if entry.link_key is not None:
            self._linked[entry.link_key] = components
        self._make_streams(folder, components[-1], entry)

    def _make_streams(self, folder: int, name: str, entry: Entry) -> None:
        """Streams become files beside theirs, called as Windows calls them: ``name:stream``."""
        for stream in entry.streams if self._options.streams else ():
            self._make_stream(
                folder, containment.require_component(f"{name}:{stream.name}"), entry, stream.name
            )

    def _make_stream(self, folder: int, name: str, entry: Entry, stream: str) -> None:
        with containment.new_file(folder, name, replace=self._options.replace) as descriptor:
            self._copy(entry, stream, descriptor)
            metadata.apply_to_descriptor(entry, {}, descriptor, self._report.lost)
        self._report.files += 1

    def _copy(self, entry: Entry, stream: str, descriptor: int) -> None:
        os.ftruncate(descriptor, stream_size(entry, stream))
        buffer = memoryview(bytearray(MAX_READ_BYTES))
        for extent in self._file_system.extents(entry, stream):
            if extent.kind is not ExtentKind.DATA:
                continue
            for offset in range(extent.offset_bytes, extent.end_bytes, MAX_READ_BYTES):
                piece = buffer[: min(MAX_READ_BYTES, extent.end_bytes - offset)]
                self._file_system.read_into(entry, offset, piece, stream)
                _write_all(descriptor, piece, offset)
                self._report.bytes += len(piece)
                self._progress.advance(len(piece))

    def _make_hard_link(self, folder: int, name: str, first: tuple[str, ...]) -> None:
        containment.make_room(folder, name, replace=self._options.replace)
        with containment.subfolder(self._folder, first[:-1]) as origin:
            os.link(first[-1], name, src_dir_fd=origin, dst_dir_fd=folder, follow_symlinks=False)
        self._report.links += 1

    def _make_symlink(self, folder: int, components: tuple[str, ...], entry: Entry) -> None:
        name = components[-1]
        target, xattrs = self._file_system.symlink_target(entry), self._xattrs(components, entry)
        containment.make_room(folder, name, replace=self._options.replace)
        os.symlink(target, name, dir_fd=folder)
        metadata.apply_to_link(entry, folder, name, xattrs, self._report.lost)
        self._report.links += 1

    def _make_fifo(self, folder: int, components: tuple[str, ...], entry: Entry) -> None:
        name = components[-1]
        containment.make_room(folder, name, replace=self._options.replace)
        os.mkfifo(name, mode=0o600, dir_fd=folder)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
        try:
            xattrs = self._xattrs(components, entry)
            metadata.apply_to_descriptor(entry, xattrs, descriptor, self._report.lost)
        finally:
            os.close(descriptor)
        self._report.files += 1

    def _finish_folder(self, components: tuple[str, ...], entry: Entry) -> None:
        xattrs = self._xattrs(components, entry)
        with containment.subfolder(self._folder, components) as folder:
            metadata.apply_to_descriptor(entry, xattrs, folder, self._report.lost)

    def _xattrs(self, components: tuple[str, ...], entry: Entry) -> dict[str, bytes]:
        """The attributes; a file whose attributes cannot be read is restored without, and said."""
        try:
            return self._file_system.xattrs(entry)
        except StillframeError as error:
            self._report.problems.append(f"{'/'.join(components)}: restored without attributes: {error}")
            return {}


def _write_all(descriptor: int, data: memoryview, offset_bytes: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset_bytes + done)
