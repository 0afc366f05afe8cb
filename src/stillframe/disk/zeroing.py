"""Making a range of an existing file or block device read as zero, cheaply where the kernel can."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from errno import EINVAL, ENOSYS, ENOTTY, EOPNOTSUPP

from stillframe.disk.staged import write_all

_KEEP_SIZE = 0x01  # fallocate(2)
_PUNCH_HOLE = 0x02
_BLKZEROOUT = 0x127F  # linux/fs.h: zero a range, by the device's own means if it has any
_SECTOR_BYTES = 4096
_PIECE = bytes(1 << 20)
_CANNOT = (EOPNOTSUPP, ENOSYS, ENOTTY, EINVAL)


def zero_range(descriptor: int, offset_bytes: int, length_bytes: int) -> None:
    """Zero a range: a hole in a file, the device's own command on a block device, written zeros otherwise.

    Raises:
        OSError: the range could not be written.
    """
    try:
        _zero_by_kernel(descriptor, offset_bytes, length_bytes)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        _write_zeros(descriptor, offset_bytes, length_bytes)


def _zero_by_kernel(descriptor: int, offset_bytes: int, length_bytes: int) -> None:
    if stat.S_ISBLK(os.fstat(descriptor).st_mode):
        if (offset_bytes | length_bytes) % _SECTOR_BYTES:
            raise OSError(EINVAL, "not aligned")
        fcntl.ioctl(descriptor, _BLKZEROOUT, struct.pack("QQ", offset_bytes, length_bytes))
    elif length_bytes:
        _punch_hole(descriptor, offset_bytes, length_bytes)


def _punch_hole(descriptor: int, offset_bytes: int, length_bytes: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    mode = _PUNCH_HOLE | _KEEP_SIZE
    if libc.fallocate64(descriptor, mode, ctypes.c_int64(offset_bytes), ctypes.c_int64(length_bytes)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write_zeros(descriptor: int, offset_bytes: int, length_bytes: int) -> None:
    end_bytes = offset_bytes + length_bytes
    for position in range(offset_bytes, end_bytes, len(_PIECE)):
        piece = memoryview(_PIECE)[: end_bytes - position]
        write_all(descriptor, position, piece)
