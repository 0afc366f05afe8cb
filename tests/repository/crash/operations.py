"""What a file system is told, in the terms that matter when the power goes: bytes, entries, and syncs.

``create``, ``link``, ``unlink`` and ``mkdir`` are all the same thing, the change of one entry of one folder.
"""

from __future__ import annotations

from dataclasses import dataclass

FOLDER = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder now means the file ``target``, or ``FOLDER``, or nothing (None)."""

    folder: str
    name: str
    target: int | None


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes appended to a file."""

    file: int
    offset_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SyncFile:
    """``fdatasync`` has returned: the bytes of the file, and its length, are safe."""

    file: int


@dataclass(frozen=True, slots=True)
class SyncFolder:
    """``fsync`` of a folder has returned: its entries are safe, but not its own in the folder above."""

    folder: str


@dataclass(frozen=True, slots=True)
class Promise:
    """Something was acknowledged to the user: from here on it must survive."""

    what: object


Operation = Entry | Write | SyncFile | SyncFolder | Promise
