"""Readers between a disk and a parser: the disk, a window of it, and a Python file object over either."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final

from stillframe.disk.reader import RandomReader
from stillframe.disk.still import StillDisk
from stillframe.errors import CorruptInputError, StillframeError

MAX_READ_BYTES: Final = 1 << 20
_CACHE_BLOCK_BYTES: Final = 64 << 10
_CACHE_BLOCKS: Final = 32


class DiskReader:
    """A still disk as a random reader; closing it leaves the disk open."""

    def __init__(self, disk: StillDisk) -> None:
        self._disk = disk
        self.name = disk.disk_id
        self.size_bytes = disk.geometry.size_bytes

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        require_range(self, offset_bytes, len(buffer))
        for start in range(0, len(buffer), MAX_READ_BYTES):
            self._disk.read_into(offset_bytes + start, buffer[start : start + MAX_READ_BYTES])

    def close(self) -> None:
        pass


class WindowReader:
    """A range of another reader, such as a partition; closing it leaves the other open."""

    def __init__(self, reader: RandomReader, offset_bytes: int, size_bytes: int, name: str) -> None:
        require_range(reader, offset_bytes, size_bytes)
        self._reader = reader
        self._offset_bytes = offset_bytes
        self.size_bytes = size_bytes
        self.name = name

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        require_range(self, offset_bytes, len(buffer))
        self._reader.read_into(self._offset_bytes + offset_bytes, buffer)

    def close(self) -> None:
        pass


def require_range(reader: RandomReader, offset_bytes: int, length_bytes: int) -> None:
    """Refuse a range that leaves the reader."""
    if offset_bytes < 0 or length_bytes < 0 or offset_bytes + length_bytes > reader.size_bytes:
        raise CorruptInputError(
            f"{reader.name}: {length_bytes} bytes at offset {offset_bytes} lie outside its "
            f"{reader.size_bytes} bytes"
        )


def peek(reader: RandomReader, offset_bytes: int, length_bytes: int) -> bytes:
    """Bytes for a look at a signature; zeros where the reader ends before."""
    inside = max(0, min(length_bytes, reader.size_bytes - offset_bytes))
    buffer = bytearray(length_bytes)
    if inside:
        reader.read_into(offset_bytes, memoryview(buffer)[:inside])
    return bytes(buffer)


class ReaderFile:
    """The Python file object that the parsing libraries ask for, with a small cache of blocks.

    The libraries turn any exception into an OSError of their own, so the error behind it is kept in
    ``failure`` for whoever wraps the call. Not safe for threads: a file system holds a lock around it.
    """

    def __init__(self, reader: RandomReader) -> None:
        self._reader = reader
        self._position_bytes = 0
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self.failure: StillframeError | None = None

    def get_size(self) -> int:
        return self._reader.size_bytes

    def tell(self) -> int:
        return self._position_bytes

    def seek(self, offset_bytes: int, whence: int = os.SEEK_SET) -> int:
        base = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position_bytes,
            os.SEEK_END: self._reader.size_bytes,
        }[whence]
        self._position_bytes = max(0, base + offset_bytes)
        return self._position_bytes

    def read(self, size_bytes: int = -1) -> bytes:
        left = max(0, self._reader.size_bytes - self._position_bytes)
        wanted = left if size_bytes < 0 else min(size_bytes, left)
        try:
            data = self._read_at(self._position_bytes, wanted)
        except StillframeError as error:
            self.failure = error
            raise OSError(str(error)) from error
        self._position_bytes += len(data)
        return data

    def close(self) -> None:
        self._cache.clear()

    def _read_at(self, offset_bytes: int, length_bytes: int) -> bytes:
        if length_bytes >= _CACHE_BLOCK_BYTES:
            buffer = bytearray(length_bytes)
            self._reader.read_into(offset_bytes, memoryview(buffer))
            return bytes(buffer)
        first, start = divmod(offset_bytes, _CACHE_BLOCK_BYTES)
        data = self._block(first)[start : start + length_bytes]
        if len(data) < length_bytes:
            data += self._block(first + 1)[: length_bytes - len(data)]
        return data

    def _block(self, number: int) -> bytes:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        offset_bytes = number * _CACHE_BLOCK_BYTES
        block = peek(
            self._reader, offset_bytes, min(_CACHE_BLOCK_BYTES, self._reader.size_bytes - offset_bytes)
        )
        self._cache[number] = block
        if len(self._cache) > _CACHE_BLOCKS:
            self._cache.popitem(last=False)
        return block
