"""What the parsers built on the libyal libraries share.

The libraries are C behind Python modules without types: all of ``Any`` ends in this package. They are not
safe for threads, so each file system holds one lock around every call. Each node's parsed object is kept for
a while, as reading a file piece by piece would parse it anew every time.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from stillframe.disk.reader import RandomReader
from stillframe.disk.still import Extent, ExtentKind, joined
from stillframe.errors import CorruptInputError, UnsupportedError
from stillframe.recovery.filesystems.interface import Entry, FileSystemInfo, stream_size
from stillframe.recovery.filesystems.readers import MAX_READ_BYTES, ReaderFile

_KEPT_OBJECTS: Final = 256
_SPARSE: Final = 0x1  # LIBFSEXT_, LIBFSXFS_, LIBFSNTFS_EXTENT_FLAG_IS_SPARSE


def load_library(module: str, extra: str = "files") -> Any:
    """Import an optional library.

    Raises:
        UnsupportedError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnsupportedError(
            f"the Python library {module} is not installed",
            hint=f"Install it with: pip install 'stillframe[{extra}]'",
        ) from error


@contextmanager
def parsing(what: str, file: ReaderFile) -> Iterator[None]:
    """Turn a library's complaint into CorruptInputError, and our own reader's error back into itself."""
    file.failure = None
    try:
        yield
    except (OSError, RuntimeError, MemoryError, ValueError, OverflowError, TypeError) as error:
        if file.failure:
            raise file.failure from error
        reason = str(error).split(". ")[-1].strip(" .") or type(error).__name__
        raise CorruptInputError(f"{what}: cannot be parsed: {reason}") from error


class LibyalFileSystem:
    """The half of a file system that is the same for every libyal library."""

    def __init__(self, reader: RandomReader, module: str, kind: str) -> None:
        self._reader = reader
        self._kind = kind
        self._lock = threading.RLock()
        self._objects: OrderedDict[int, Any] = OrderedDict()
        self._file = ReaderFile(reader)
        self._library = load_library(module)
        self._volume = self._library.volume()
        with self._parsing("the file system"):
            self._volume.open_file_object(self._file)

    @property
    def info(self) -> FileSystemInfo:
        raise NotImplementedError

    def close(self) -> None:
        with self._lock:
            self._objects.clear()
            self._volume.close()

    def read_into(self, file: Entry, offset_bytes: int, buffer: memoryview, stream: str = "") -> None:
        if offset_bytes < 0 or offset_bytes + len(buffer) > stream_size(file, stream):
            raise ValueError(f"{file.name}: {len(buffer)} bytes at {offset_bytes} leave the file")
        with self._parsing(file.name):
            source = self._data(file, stream)
            done = 0
            while done < len(buffer):
                wanted = min(MAX_READ_BYTES, len(buffer) - done)
                piece = source.read_buffer_at_offset(wanted, offset_bytes + done)
                if not piece:
                    raise ValueError(f"its data end at {offset_bytes + done}")
                buffer[done : done + len(piece)] = piece
                done += len(piece)

    def extents(self, file: Entry, stream: str = "") -> Iterator[Extent]:
        with self._parsing(file.name):
            source = self._data(file, stream)
            known = [source.get_extent(number) for number in range(self._extent_count(file, source))]
        return joined(_clipped(known, stream_size(file, stream)))

    def _extent_count(self, file: Entry, source: Any) -> int:
        """How many extents describe the data; 0 where they say nothing of holes."""
        del file
        return int(source.number_of_extents)

    def _data(self, file: Entry, stream: str) -> Any:
        """The library's object that reads a file's data."""
        del stream
        return self._object(file.node)

    def _parse(self, node: int) -> Any:
        """The library's object for a node."""
        raise NotImplementedError

    def _object(self, node: int) -> Any:
        if node in self._objects:
            self._objects.move_to_end(node)
        else:
            self._keep(node, self._parse(node))
        return self._objects[node]

    def _keep(self, node: int, parsed: Any) -> None:
        self._objects[node] = parsed
        if len(self._objects) > _KEPT_OBJECTS:
            self._objects.popitem(last=False)

    @contextmanager
    def _parsing(self, what: str) -> Iterator[None]:
        with self._lock, parsing(f"{self._reader.name}: {self._kind}: {what}", self._file):
            yield


def _clipped(known: list[tuple[int, int, int]], size_bytes: int) -> Iterator[Extent]:
    """A library's extents as ours, cut at the size; what they do not cover counts as data."""
    position = 0
    for _, stored_bytes, flags in known:
        length_bytes = min(stored_bytes, size_bytes - position)
        if length_bytes > 0:
            kind = ExtentKind.ZERO if flags & _SPARSE else ExtentKind.DATA
            yield Extent(position, length_bytes, kind)
            position += length_bytes
    if position < size_bytes:
        yield Extent(position, size_bytes - position)
