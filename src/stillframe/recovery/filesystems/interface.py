"""The one interface of every file system, whoever parses it: a library, a guest's kernel or this host's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from stillframe.disk.still import Extent


class EntryKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Stream:
    """An alternate data stream of NTFS."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Times:
    """Nanoseconds since 1970 UTC; None where the file system keeps no such time.

    FAT keeps local time without saying whose: it is given as if it were UTC.
    """

    modified_ns: int | None = None
    accessed_ns: int | None = None
    changed_ns: int | None = None
    created_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory and what it stands for.

    ``name`` holds bytes that are no UTF-8 as surrogates (PEP 383). ``node`` names the file within its file
    system as long as that is open. ``link_key`` is the same for all names of a file that has several, and
    None for a file that has one. ``mode`` (permission bits), ``owner`` and ``group`` are None where the file
    system has none. ``flags`` are the attributes of NTFS and FAT.
    """

    name: str
    node: int
    kind: EntryKind
    size_bytes: int
    times: Times = Times()
    mode: int | None = None
    owner: int | None = None
    group: int | None = None
    link_key: str | None = None
    flags: tuple[str, ...] = ()
    streams: tuple[Stream, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """What a directory holds; ``problems`` are the entries that could not be read, in words."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileSystemInfo:
    """What is known of a file system as a whole.

    ``journal_dirty``: changes wait in a journal that was not replayed, so names and contents may be older
    than the disk, or missing. None where it cannot be told.
    """

    kind: str
    label: str
    journal_dirty: bool | None
    case_sensitive: bool = True
    notes: tuple[str, ...] = ()


class FileSystem(Protocol):
    """A file system, read-only. Methods may be called from several threads at once.

    Every method raises CorruptInputError where the file system is damaged and UnsupportedError where it uses
    something that the parser cannot read; neither ever yields wrong data in silence.
    """

    @property
    def info(self) -> FileSystemInfo: ...

    def root(self) -> Entry: ...

    def list(self, directory: Entry) -> Listing:
        """All names but ``.`` and ``..``, in the file system's own order."""

    def read_into(self, file: Entry, offset_bytes: int, buffer: memoryview, stream: str = "") -> None:
        """Fill the whole of ``buffer`` from a file's data, or from one of its streams.

        Raises:
            ValueError: the range leaves the file.
        """

    def extents(self, file: Entry, stream: str = "") -> Iterator[Extent]:
        """Data and holes of a file in ascending order, without gaps, up to its size."""

    def symlink_target(self, link: Entry) -> str: ...

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        """Extended attributes as Linux names and encodes them, POSIX access lists included."""

    def close(self) -> None: ...


def stream_size(file: Entry, stream: str) -> int:
    """The size of a file's data or of a stream of it.

    Raises:
        KeyError: the file has no such stream.
    """
    if not stream:
        return file.size_bytes
    return {candidate.name: candidate.size_bytes for candidate in file.streams}[stream]
