"""Parent locators: the paths under which a differencing disk remembers its parent."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.errors import CorruptInputError

LOCATOR_BYTES = 24
LOCATOR_COUNT = 8
RELATIVE = b"W2ru"  # relative Windows path, UTF-16LE
ABSOLUTE = b"W2ku"  # absolute Windows path, UTF-16LE
MAX_PATH_BYTES = 64 << 10  # Windows' longest path, 32767 UTF-16 units

_LAYOUT = struct.Struct(">4s I I 4x Q")


@dataclass(frozen=True, slots=True)
class LocatorEntry:
    """Where one form of the parent's path is kept."""

    code: bytes = bytes(4)
    # Sectors by the specification, bytes in the files that Windows makes: never relied on when reading.
    space: int = 0
    length_bytes: int = 0
    offset_bytes: int = 0

    def pack(self) -> bytes:
        return _LAYOUT.pack(self.code, self.space, self.length_bytes, self.offset_bytes)

    @classmethod
    def unpack(cls, stored: bytes) -> LocatorEntry:
        return cls(*_LAYOUT.unpack(stored))


def parent_names(reader: RandomReader, entries: Iterable[LocatorEntry], parent_name: str) -> Iterator[str]:
    """The parent's paths as Windows writes them: relative ones first, then absolute, then the bare name.

    Raises:
        CorruptInputError: a locator leaves the file or holds no path.
    """
    entries = list(entries)
    for code in (RELATIVE, ABSOLUTE):
        yield from (_path(reader, entry) for entry in entries if entry.code == code)
    if parent_name:
        yield parent_name


def _path(reader: RandomReader, entry: LocatorEntry) -> str:
    where = f"{reader.name}: parent locator {entry.code.decode('ascii')} at {entry.offset_bytes}"
    if not 0 < entry.length_bytes <= MAX_PATH_BYTES or entry.length_bytes % 2:
        raise CorruptInputError(f"{where}: has a path of {entry.length_bytes} bytes")
    if entry.offset_bytes + entry.length_bytes > reader.size_bytes:
        raise CorruptInputError(f"{where}: is not inside the file")
    try:
        path = read_bytes(reader, entry.offset_bytes, entry.length_bytes).decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise CorruptInputError(f"{where}: is not UTF-16") from error
    path = path.rstrip("\0")
    if not path or "\0" in path:
        raise CorruptInputError(f"{where}: holds no path")
    return path


def relative_windows_path(relative: PurePath) -> str:
    """A relative path as Windows writes it into a child: ``.\\parent.vhd``, ``..\\base\\parent.vhd``."""
    parts = relative.parts if relative.parts[:1] == ("..",) else (".", *relative.parts)
    return "\\".join(parts)
