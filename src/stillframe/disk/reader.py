"""Random-access readers: what a disk format reads its bytes from (a local file now, SMB later)."""

from __future__ import annotations

import os
import stat
from errno import EINVAL
from pathlib import Path
from typing import Protocol

from stillframe.errors import CorruptInputError, UsageError


class RandomReader(Protocol):
    """Bytes by offset. ``read_into`` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """How to call this source in messages."""

    @property
    def size_bytes(self) -> int: ...

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        """Fill the whole of ``buffer``.

        Raises:
            CorruptInputError: the source ends, or cannot be read, within the range.
        """

    def close(self) -> None: ...


class FileReader:
    """A local file or block device, opened once; reads are positioned, so threads share one descriptor."""

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise UsageError(f"{path}: cannot be opened: {error.strerror}") from error
        self._name = str(path)
        try:
            self._size_bytes = _size_of(self._descriptor)
        except OSError as error:  # some of the kernel's files have no end
            self.close()
            raise UsageError(f"{path}: is neither a file nor a block device") from error

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def fileno(self) -> int:
        return self._descriptor

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self._descriptor, [buffer[done:]], offset_bytes + done)
            except OSError as error:
                raise CorruptInputError(
                    f"{self._name}: cannot be read at offset {offset_bytes + done}: {error.strerror}"
                ) from error
            if count == 0:
                raise CorruptInputError(f"{self._name}: ends at {offset_bytes + done}, but more was expected")
            done += count

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _size_of(descriptor: int) -> int:
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise OSError(EINVAL, "not a file")
    return os.lseek(descriptor, 0, os.SEEK_END)


def read_bytes(reader: RandomReader, offset_bytes: int, length_bytes: int) -> bytes:
    """A small piece as bytes; for headers and tables."""
    buffer = bytearray(length_bytes)
    reader.read_into(offset_bytes, memoryview(buffer))
    return bytes(buffer)
