"""What the file commands share: the sources one of them opened, its warnings, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePath
from types import TracebackType
from typing import Self

import typer

from stillframe.cli.options import Access
from stillframe.cli.output import warn
from stillframe.cli.spec import resolve_point, split_point
from stillframe.disk.still import StillDisk
from stillframe.errors import StillframeError, UsageError
from stillframe.recovery.files import DiskFiles, Found
from stillframe.recovery.filesystems.volumes import Volume
from stillframe.recovery.kernels import Through, opener
from stillframe.recovery.mount import MountedDisk
from stillframe.recovery.source import OpenedSource, names_a_file, open_source, source_of_point
from stillframe.repository.repository import Repository

_NOTHING_TO_SEARCH = {"", "swap", "lvm2"}


@dataclass(frozen=True, slots=True)
class Place:
    """What a specification named: disks (``names``), the root of a disk, or a file or folder on it."""

    names: tuple[str, ...] = ()
    disk: DiskFiles | None = None
    found: Found | None = None


class FileSession:
    """Opens specifications; at its end everything is closed, and problems become exit code 1."""

    def __init__(self, access: Access, *, guest: bool, host_kernel: bool) -> None:
        if guest and host_kernel:
            raise UsageError("--guest and --host-kernel exclude each other")
        self.problems: list[str] = []
        self._access = access
        self._repository: Repository | None = None
        self._stack = ExitStack()
        self._warned: set[int] = set()
        self._through = Through.HOST_KERNEL if host_kernel else Through.GUEST if guest else Through.PARSER

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None and self.problems:
            raise typer.Exit(1)

    def open(self, spec: str) -> Place:
        """Open a disk and find what the path names."""
        source = self._source(spec)
        named, path = source.choose()
        if named is None:
            return Place(tuple(disk.name for disk in source.disks))
        disk = self._disk_files(named.disk)
        return Place(disk=disk, found=disk.locate(path))

    def open_file(self, spec: str) -> Found:
        """What a specification names, which must lie within a volume."""
        found = self.open(spec).found
        if found is None:
            raise UsageError(
                f"{spec}: is a disk, not a file", hint="Name a volume first; `files ls` lists them."
            )
        return found

    def open_all(self, spec: str) -> Iterator[tuple[str, Found]]:
        """Every place to search below a specification, with the words that come before its paths."""
        source = self._source(spec)
        named, path = source.choose()
        if named is not None:
            yield from self._places(self._disk_files(named.disk), "", path)
            return
        for disk in source.disks:
            yield from self._places(self._disk_files(disk.disk), f"/{disk.name}", "")

    def open_disks(self, spec: str) -> list[MountedDisk]:
        """All disks of a specification without a path, each under the last part of its name.

        Raises:
            UsageError: the specification goes on with a path, or two disks share a name.
        """
        source = self._source(spec)
        if source.path.strip("/"):
            raise UsageError(f"{spec}: names a path", hint="A mount shows whole disks.")
        disks = [
            MountedDisk(PurePath(named.name).name, named.disk, self._disk_files(named.disk))
            for named in source.disks
        ]
        if len({disk.name for disk in disks}) < len(disks):
            raise UsageError(f"{spec}: two of its disks have the same name")
        return disks

    def _source(self, spec: str) -> OpenedSource:
        """A file that exists goes first; a point needs the repository, which is opened once."""
        named = None if names_a_file(spec) else split_point(spec)
        if named is None:
            return self._stack.enter_context(open_source(spec))
        if self._repository is None:
            self._repository = self._stack.enter_context(self._access.opened())
        point = resolve_point(self._repository, named[0])
        return source_of_point(self._repository, point, named[1])

    def warn_about(self, found: Found) -> None:
        """Say once per file system what its reader should know."""
        if id(found.file_system) in self._warned:
            return
        self._warned.add(id(found.file_system))
        info = found.file_system.info
        if info.journal_dirty:
            warn(
                f"{found.volume.name}: the journal was not replayed: recent changes may be missing",
                hint=journal_hint(info.kind),
            )
        for note in info.notes:
            warn(f"{found.volume.name}: {note}")

    def report(self, problem: str) -> None:
        """Something could not be read or restored."""
        self.problems.append(problem)
        warn(problem)

    def _disk_files(self, disk: StillDisk) -> DiskFiles:
        files = DiskFiles(disk, self._stack.enter_context(opener(self._through)))
        self._stack.callback(files.close)
        return files

    def _places(self, files: DiskFiles, prefix: str, path: str) -> Iterator[tuple[str, Found]]:
        found = files.locate(path)
        if found is not None:
            yield prefix if files.is_whole_disk else f"{prefix}/{found.volume.name}", found
            return
        for volume in files.volumes:
            if (root := self._root_of(files, volume)) is not None:
                yield f"{prefix}/{volume.name}", root

    def _root_of(self, files: DiskFiles, volume: Volume) -> Found | None:
        if volume.content in _NOTHING_TO_SEARCH:
            return None
        try:
            return files.locate(volume.name)
        except StillframeError as error:
            self.report(str(error))
            return None


def journal_hint(kind: str) -> str:
    """How to see a file system as it is once its journal is replayed."""
    if kind == "ntfs":
        return "Attach the restored disk to Windows to have it replayed; nothing else does so reliably."
    return "--guest replays it on a private copy, in a throw-away virtual machine."
