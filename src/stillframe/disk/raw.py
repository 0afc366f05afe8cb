"""Raw disks: a plain file whose holes are honoured, or a block device."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from stillframe.disk.facts import FormatFacts
from stillframe.disk.ranges import Untracked, check_range, descriptor_of, file_extents, fill_zeros
from stillframe.disk.reader import RandomReader
from stillframe.disk.staged import CannotWriteError, StagedFile, write_all, writing
from stillframe.disk.still import MAX_DISK_BYTES, Extent, ExtentKind, Geometry
from stillframe.disk.zeroing import zero_range
from stillframe.errors import CorruptInputError, UnsupportedError, UsageError

_BLKSSZGET = 0x1268  # linux/fs.h: logical sector size
_BLKPBSZGET = 0x127B  # linux/fs.h: physical sector size
_SECTOR_BYTES = 512


class RawDisk(Untracked):
    """A file or block device read as it is.

    A file that ends within a sector is read as if zeros filled that sector, as QEMU does.
    """

    def __init__(self, reader: RandomReader, *, path: Path | None = None) -> None:
        """Own ``reader`` unless this fails; ``path``, where there is one, gives the disk its id.

        Raises:
            CorruptInputError: the source is empty.
            UnsupportedError: it is larger than any virtual disk.
        """
        if reader.size_bytes == 0:
            raise CorruptInputError(f"{reader.name}: is empty, so it is no disk")
        if reader.size_bytes > MAX_DISK_BYTES:
            raise UnsupportedError(f"{reader.name}: is larger than 64 TiB")
        self._reader = reader
        self._descriptor = descriptor_of(reader)
        self._disk_id = str(path.resolve()) if path else reader.name
        self._geometry = _geometry(reader.size_bytes, self._descriptor)

    @property
    def facts(self) -> FormatFacts:
        kind = "device" if _is_device(self._descriptor) else "file"
        partial = self._geometry.size_bytes != self._reader.size_bytes
        notes = ("ends within a sector; the rest of it reads as zeros",) if partial else ()
        return FormatFacts("raw", kind, notes=notes)

    @property
    def disk_id(self) -> str:
        return self._disk_id

    @property
    def geometry(self) -> Geometry:
        return self._geometry

    def extents(self) -> Iterator[Extent]:
        size_bytes = self._reader.size_bytes
        yield from file_extents(self._descriptor, 0, size_bytes)
        if padding := self._geometry.size_bytes - size_bytes:
            yield Extent(size_bytes, padding, ExtentKind.UNMAPPED)

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        check_range(self._geometry, offset_bytes, len(buffer))
        present = max(0, min(len(buffer), self._reader.size_bytes - offset_bytes))
        self._reader.read_into(offset_bytes, buffer[:present])
        fill_zeros(buffer[present:])

    def close(self) -> None:
        self._reader.close()


def _geometry(size_bytes: int, descriptor: int | None) -> Geometry:
    rounded = -(-size_bytes // _SECTOR_BYTES) * _SECTOR_BYTES
    if descriptor is None or not _is_device(descriptor):
        return Geometry(rounded)
    return Geometry(rounded, _ioctl_u32(descriptor, _BLKSSZGET), _ioctl_u32(descriptor, _BLKPBSZGET))


def _is_device(descriptor: int | None) -> bool:
    return descriptor is not None and stat.S_ISBLK(os.fstat(descriptor).st_mode)


def _ioctl_u32(descriptor: int, request: int) -> int:
    (value,) = struct.unpack("I", fcntl.ioctl(descriptor, request, bytes(4)))
    return int(value)


class RawTarget:
    """A new sparse file."""

    def __init__(self, path: Path, geometry: Geometry) -> None:
        """Begin the file.

        Raises:
            UsageError: it exists already.
            CannotWriteError: it cannot be made.
        """
        self._file = StagedFile(path)
        try:
            self._file.resize(geometry.size_bytes)
        except CannotWriteError:
            self._file.discard()
            raise
        self._geometry = geometry

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None:
        check_range(self._geometry, offset_bytes, len(data))
        self._file.write(offset_bytes, data)

    def zero(self, extent: Extent) -> None:
        check_range(self._geometry, extent.offset_bytes, extent.length_bytes)  # a new file is zero

    def finish(self) -> None:
        self._file.publish()

    def abort(self) -> None:
        self._file.discard()


class InPlaceRawTarget:
    """An existing file or block device that is overwritten where it stands.

    Whatever is not written keeps its old contents: the caller writes, or zeroes, all that differs. ``abort``
    undoes nothing.
    """

    def __init__(self, path: Path, geometry: Geometry) -> None:
        """Open the target for writing.

        Raises:
            UsageError: it is missing, in use (a mounted device), or its size is not the disk's.
        """
        exclusive = os.O_EXCL if path.is_block_device() else 0  # Linux refuses a device that is mounted
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | exclusive)
        except OSError as error:
            raise UsageError(f"{path}: cannot be opened for writing: {error.strerror}") from error
        self._path = path
        self._geometry = geometry
        try:
            self._check_size()
        except UsageError:
            self.abort()
            raise

    def _check_size(self) -> None:
        mode = os.fstat(self._descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise UsageError(f"{self._path}: is neither a file nor a block device")
        size_bytes = os.lseek(self._descriptor, 0, os.SEEK_END)
        wanted = self._geometry.size_bytes
        if size_bytes != wanted and not (stat.S_ISBLK(mode) and size_bytes > wanted):
            raise UsageError(f"{self._path}: has {size_bytes} bytes, but the disk has {wanted}")

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None:
        check_range(self._geometry, offset_bytes, len(data))
        with writing(self._path):
            write_all(self._descriptor, offset_bytes, data)

    def zero(self, extent: Extent) -> None:
        check_range(self._geometry, extent.offset_bytes, extent.length_bytes)
        with writing(self._path):
            zero_range(self._descriptor, extent.offset_bytes, extent.length_bytes)

    def finish(self) -> None:
        with writing(self._path):
            os.fsync(self._descriptor)
        self.abort()

    def abort(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
