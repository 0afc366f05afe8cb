"""Opens the file system of a volume with the parser for its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import UnsupportedError
from stillframe.recovery.filesystems.ext import ExtFileSystem
from stillframe.recovery.filesystems.fat import FatFileSystem
from stillframe.recovery.filesystems.interface import FileSystem
from stillframe.recovery.filesystems.ntfs import NtfsFileSystem
from stillframe.recovery.filesystems.volumes import Volume
from stillframe.recovery.filesystems.xfs import XfsFileSystem

_PARSERS: Final[dict[str, Callable[[RandomReader], FileSystem]]] = {
    "ext": ExtFileSystem,
    "xfs": XfsFileSystem,
    "ntfs": NtfsFileSystem,
    "fat": FatFileSystem,
    "exfat": FatFileSystem,
}
_REASONS: Final = {
    "luks": "is encrypted (LUKS)",
    "bitlocker": "is encrypted (BitLocker)",
    "refs": "holds ReFS, which no open parser reads: attach the restored disk to a Windows host",
    "swap": "is swap space",
    "lvm2": "is a physical volume of LVM2: its logical volumes are listed beside it",
    "": "holds nothing that is known",
}


def has_parser(volume: Volume) -> bool:
    return volume.content in _PARSERS


def open_file_system(volume: Volume) -> FileSystem:
    """Open with a parser, in this process, without a kernel.

    Raises:
        UnsupportedError: there is no parser for what the volume holds.
        CorruptInputError: the file system is damaged.
    """
    if volume.content not in _PARSERS:
        reason = _REASONS.get(volume.content, f"holds {volume.content}, for which there is no parser")
        raise UnsupportedError(f"{volume.name}: {reason}")
    return open_parser(volume.content, volume.open_reader())


def open_parser(content: str, reader: RandomReader) -> FileSystem:
    """The parser for a kind of file system, over any reader of it."""
    return _PARSERS[content](reader)
