"""Whether an XFS log holds changes that were not written back.

Source: Linux fs/xfs/libxfs/xfs_format.h (struct xfs_dsb) and xfs_log_format.h (struct xlog_rec_header, struct
xlog_op_header). A clean log ends with a record of one operation, the unmount record; whatever record carries
the highest sequence number was written last.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from stillframe.disk.reader import RandomReader
from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems.readers import MAX_READ_BYTES, peek

_BASIC_BLOCK_BYTES: Final = 512
_RECORD_MAGIC: Final = 0xFEEDBABE
_HEADER_COVERS_BYTES: Final = 32 << 10  # XLOG_HEADER_CYCLE_SIZE: a version 2 record has a header per 32 KiB
_UNMOUNT: Final = 0x20  # XLOG_UNMOUNT_TRANS
_MAX_LOG_BYTES: Final = 2 << 30  # XFS_MAX_LOG_BYTES


@dataclass(frozen=True, slots=True)
class _Log:
    offset_bytes: int
    size_bytes: int


def log_is_dirty(reader: RandomReader) -> bool | None:
    """True where changes wait in the log; None for a log on another device or one without records."""
    log = _locate(reader)
    if log is None:
        return None
    last = _last_record(reader, log)
    if last is None:
        return None
    return not _is_unmount(reader, log, last)


def _locate(reader: RandomReader) -> _Log | None:
    superblock = peek(reader, 0, 128)
    (block_bytes,) = struct.unpack_from(">I", superblock, 4)
    (start,) = struct.unpack_from(">Q", superblock, 48)
    group_blocks, _, _, log_blocks = struct.unpack_from(">4I", superblock, 84)
    group_shift = superblock[124]
    if start == 0:
        return None
    if group_shift > 31:
        raise CorruptInputError(f"{reader.name}: the XFS superblock is damaged: sb_agblklog is {group_shift}")
    group, block = start >> group_shift, start & ((1 << group_shift) - 1)
    log = _Log((group * group_blocks + block) * block_bytes, log_blocks * block_bytes)
    if log.size_bytes > _MAX_LOG_BYTES or log.offset_bytes + log.size_bytes > reader.size_bytes:
        raise CorruptInputError(
            f"{reader.name}: the XFS superblock is damaged: its log lies outside the disk"
        )
    return log


def _last_record(reader: RandomReader, log: _Log) -> int | None:
    """The offset within the log of the record with the highest sequence number."""
    best: tuple[int, int] | None = None
    for start in range(0, log.size_bytes, MAX_READ_BYTES):
        piece = peek(reader, log.offset_bytes + start, min(MAX_READ_BYTES, log.size_bytes - start))
        words = np.frombuffer(piece, dtype=">u4").reshape(-1, _BASIC_BLOCK_BYTES // 4)
        for number in np.flatnonzero(words[:, 0] == _RECORD_MAGIC):
            at = int(number) * _BASIC_BLOCK_BYTES
            (sequence,) = struct.unpack_from(">Q", piece, at + 16)
            best = max(best or (0, 0), (sequence, start + at))
    return best[1] if best else None


def _is_unmount(reader: RandomReader, log: _Log, record: int) -> bool:
    header = peek(reader, log.offset_bytes + record, _BASIC_BLOCK_BYTES)
    version, length_bytes = struct.unpack_from(">II", header, 8)
    (operations,) = struct.unpack_from(">I", header, 40)
    (size_bytes,) = struct.unpack_from(">I", header, 320)
    headers = 1
    if version & 2 and _HEADER_COVERS_BYTES < size_bytes <= _MAX_LOG_BYTES:
        headers = -(-size_bytes // _HEADER_COVERS_BYTES)
    data = (record + headers * _BASIC_BLOCK_BYTES) % log.size_bytes  # a record may wrap around the end
    operation = peek(reader, log.offset_bytes + data, 12)
    return operations == 1 and length_bytes > 0 and bool(operation[9] & _UNMOUNT)
