"""What must not change while a disk file is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from stillframe.disk.reader import FileReader, read_bytes
from stillframe.errors import StillframeError, UsageError

_VHDX_SIGNATURE = b"vhdxfile"


class DiskChangedError(StillframeError):
    """A disk file was written to while it was read, so what was read is of no one moment."""


@dataclass(frozen=True, slots=True)
class StillStamp:
    """Two stamps of one path that are equal: the file was not written in between, as far as can be told."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    file_write_id: UUID | None = None  # VHDX only: changes when the file is first written after an open
    data_write_id: UUID | None = None  # VHDX only: changes when the guest's data does


def still_stamp(path: Path) -> StillStamp:
    """The state of the file that ``path`` names now, looked up afresh (a replaced file is another one).

    A block device carries no times of its own: for it only size and identity are compared.

    Raises:
        UsageError: the file cannot be opened.
        CorruptInputError: it is a VHDX without a valid header.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be opened: {error.strerror}") from error
    reader = FileReader(path)
    try:
        file_write_id, data_write_id = _write_ids(reader)
        return StillStamp(
            device=status.st_dev,
            inode=status.st_ino,
            size_bytes=reader.size_bytes,
            modified_ns=status.st_mtime_ns,
            file_write_id=file_write_id,
            data_write_id=data_write_id,
        )
    finally:
        reader.close()


def check_unchanged(path: Path, before: StillStamp) -> None:
    """Raise DiskChangedError if the file is not as it was when ``before`` was taken."""
    if still_stamp(path) != before:
        hint = "Shut the machine down, or read a snapshot of it."
        raise DiskChangedError(f"{path}: was written to while it was read", hint=hint)


def _write_ids(reader: FileReader) -> tuple[UUID | None, UUID | None]:
    beginning = read_bytes(reader, 0, min(len(_VHDX_SIGNATURE), reader.size_bytes))
    if beginning != _VHDX_SIGNATURE:
        return None, None
    from stillframe.disk.vhdx.header import read_current_header

    header = read_current_header(reader)
    return header.file_write_id, header.data_write_id
