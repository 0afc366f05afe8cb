"""Extended attributes of ext2, ext3 and ext4, read from the inodes themselves.

libfsext (20260821) gives all but the first 60 bytes of a value as zeros, and forgets the attributes kept
within an inode from the second time on that it reads it. Layout: Linux Documentation/filesystems/ext4
(super.rst, group_descr.rst, inodes.rst, attributes.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import CorruptInputError, UnsupportedError
from stillframe.recovery.filesystems import posix_acl
from stillframe.recovery.filesystems.readers import peek

_MAGIC: Final = 0xEA020000
_META_BG: Final = 0x10
_64BIT: Final = 0x80
_OLD_INODE_BYTES: Final = 128
_ENTRY_BYTES: Final = 16
_BLOCK_HEADER_BYTES: Final = 32
_MAX_VALUE_BYTES: Final = 64 << 10  # XATTR_SIZE_MAX of Linux
_INLINE_DATA: Final = "system.data"  # the contents of a small file, not an attribute of it
_PREFIXES: Final = {
    1: "user.",
    2: "system.posix_acl_access",
    3: "system.posix_acl_default",
    4: "trusted.",
    6: "security.",
    7: "system.",
    8: "system.richacl",
}


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the superblock says of where inodes lie."""

    block_bytes: int
    inode_bytes: int
    inodes_per_group: int
    descriptor_bytes: int
    first_data_block: int


class ExtAttributes:
    """``read_inode`` gives the data of an inode, for values kept in one of their own (``ea_inode``)."""

    def __init__(self, reader: RandomReader, read_inode: Callable[[int, int], bytes]) -> None:
        self._reader = reader
        self._read_inode = read_inode
        self._shape = _shape(reader)

    def read(self, inode: int) -> dict[str, bytes]:
        """All attributes of an inode, named and encoded as Linux shows them.

        Raises:
            CorruptInputError: they are damaged.
        """
        raw = self._inode(inode)
        found = dict(self._within(raw)) | dict(self._in_block(raw))
        found.pop(_INLINE_DATA, None)
        return found

    def _inode(self, inode: int) -> bytes:
        shape = self._shape
        group, index = divmod(inode - 1, shape.inodes_per_group)
        place = (shape.first_data_block + 1) * shape.block_bytes + group * shape.descriptor_bytes
        descriptor = peek(self._reader, place, shape.descriptor_bytes)
        table = struct.unpack_from("<I", descriptor, 8)[0]
        if shape.descriptor_bytes >= 64:
            table |= struct.unpack_from("<I", descriptor, 0x28)[0] << 32
        return peek(self._reader, table * shape.block_bytes + index * shape.inode_bytes, shape.inode_bytes)

    def _within(self, raw: bytes) -> Iterator[tuple[str, bytes]]:
        if len(raw) <= _OLD_INODE_BYTES + 4:
            return
        start = _OLD_INODE_BYTES + struct.unpack_from("<H", raw, _OLD_INODE_BYTES)[0]
        if start + 4 <= len(raw) and struct.unpack_from("<I", raw, start)[0] == _MAGIC:
            yield from self._entries(raw, start + 4, values_from=start + 4)

    def _in_block(self, raw: bytes) -> Iterator[tuple[str, bytes]]:
        block = struct.unpack_from("<I", raw, 104)[0] | struct.unpack_from("<H", raw, 118)[0] << 32
        if not block:
            return
        data = peek(self._reader, block * self._shape.block_bytes, self._shape.block_bytes)
        if struct.unpack_from("<I", data)[0] != _MAGIC:
            raise CorruptInputError(f"{self._reader.name}: the attributes in block {block} are damaged")
        yield from self._entries(data, _BLOCK_HEADER_BYTES, values_from=0)

    def _entries(self, data: bytes, position: int, values_from: int) -> Iterator[tuple[str, bytes]]:
        """Entries end with four zero bytes; a block is small, so their number is bounded by its size."""
        while position + 4 <= len(data) and data[position : position + 4] != bytes(4):
            if position + _ENTRY_BYTES > len(data):
                raise CorruptInputError(f"{self._reader.name}: an attribute leaves its block")
            name_bytes, prefix, at, inode, size, _ = struct.unpack_from("<BBHIII", data, position)
            position += _ENTRY_BYTES
            name = _PREFIXES.get(prefix, f"unknown-{prefix}.") + _text(data[position : position + name_bytes])
            position += -(-name_bytes // 4) * 4
            yield name, _linux_value(name, self._value(data, values_from + at, inode, size))

    def _value(self, data: bytes, at: int, inode: int, size: int) -> bytes:
        if size > _MAX_VALUE_BYTES or (not inode and at + size > len(data)):
            raise CorruptInputError(f"{self._reader.name}: an attribute's value leaves its block")
        return self._read_inode(inode, size) if inode else data[at : at + size]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _linux_value(name: str, value: bytes) -> bytes:
    return posix_acl.from_ext(value) if name.startswith("system.posix_acl_") else value


def _shape(reader: RandomReader) -> _Shape:
    superblock = peek(reader, 1024, 1024)
    (first_data_block, block_shift) = struct.unpack_from("<II", superblock, 0x14)
    (inodes_per_group,) = struct.unpack_from("<I", superblock, 0x28)
    (revision,) = struct.unpack_from("<I", superblock, 0x4C)
    (inode_bytes,) = struct.unpack_from("<H", superblock, 0x58)
    (incompatible,) = struct.unpack_from("<I", superblock, 0x60)
    (descriptor_bytes,) = struct.unpack_from("<H", superblock, 0xFE)
    if incompatible & _META_BG:
        raise UnsupportedError(
            f"{reader.name}: attributes of ext with meta_bg cannot be read without a kernel"
        )
    if block_shift > 6 or not inodes_per_group or inode_bytes > 1024 << block_shift:
        raise CorruptInputError(f"{reader.name}: the superblock of ext is damaged")
    return _Shape(
        block_bytes=1024 << block_shift,
        inode_bytes=inode_bytes if revision else _OLD_INODE_BYTES,
        inodes_per_group=inodes_per_group,
        descriptor_bytes=max(32, descriptor_bytes) if incompatible & _64BIT else 32,
        first_data_block=first_data_block,
    )
