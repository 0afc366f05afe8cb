"""The dynamic disk header: block size, where the block allocation table is, and who the parent is."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.vhd.checksum import checksum
from stillframe.disk.vhd.footer import NO_HEADER, SECTOR_BYTES, Footer
from stillframe.disk.vhd.locator import LOCATOR_BYTES, LOCATOR_COUNT, LocatorEntry
from stillframe.errors import CorruptInputError, UnsupportedError

COOKIE = b"cxsparse"
HEADER_BYTES = 1024
DEFAULT_BLOCK_BYTES = 2 << 20
MIN_BLOCK_BYTES = 4 << 10
MAX_BLOCK_BYTES = 256 << 20
MAX_BLOCKS = 1 << 22  # 2 TiB in 512 KiB blocks, the smallest that Windows makes; 16 MiB of table

_VERSION = 0x0001_0000
_CHECKSUM_OFFSET = 36
_NAME_BYTES = 512
_LAYOUT = struct.Struct(">8s Q Q I I I I 16s I 4x 512s 192s 256x")


@dataclass(frozen=True, slots=True)
class DynamicHeader:
    """The header of a dynamic or differencing disk."""

    table_offset_bytes: int
    table_entries: int
    block_bytes: int
    parent_id: bytes = bytes(16)  # the parent footer's unique id, compared as stored
    parent_timestamp_s: int = 0  # not to be relied on: Windows 10 leaves it 0
    parent_name: str = ""
    locators: tuple[LocatorEntry, ...] = field(default=())

    def pack(self) -> bytes:
        fields = _LAYOUT.pack(
            COOKIE,
            NO_HEADER,
            self.table_offset_bytes,
            _VERSION,
            self.table_entries,
            self.block_bytes,
            0,
            self.parent_id,
            self.parent_timestamp_s,
            # Only for people: the locators are what readers follow. Half a surrogate pair at the end is none.
            self.parent_name.encode("utf-16-be")[:_NAME_BYTES],
            b"".join(each.pack() for each in self.locators),
        )
        sealed = bytearray(fields)
        struct.pack_into(">I", sealed, _CHECKSUM_OFFSET, checksum(fields, _CHECKSUM_OFFSET))
        return bytes(sealed)


def read_dynamic_header(reader: RandomReader, footer: Footer) -> DynamicHeader:
    """The header that the footer points to.

    Raises:
        CorruptInputError: it is not there, or a field is wrong.
        UnsupportedError: a version other than 1, or more blocks than are ever needed.
    """
    offset = footer.header_offset_bytes
    where = f"{reader.name}: dynamic disk header at {offset}"
    if offset % SECTOR_BYTES or offset + HEADER_BYTES > reader.size_bytes:
        raise CorruptInputError(f"{where}: is not inside the file")
    header = parse_dynamic_header(read_bytes(reader, offset, HEADER_BYTES), where)
    _check_table(header, footer, reader.size_bytes, where)
    return header


def parse_dynamic_header(stored: bytes, where: str) -> DynamicHeader:
    """Parse and check the fields that need no knowledge of the file; ``where`` begins every message."""
    cookie, _next, table, version, entries, block, stored_sum, *parent, name, locators = _LAYOUT.unpack(
        stored
    )
    if cookie != COOKIE:
        raise CorruptInputError(f"{where}: does not begin with 'cxsparse'")
    if stored_sum != checksum(stored, _CHECKSUM_OFFSET):
        raise CorruptInputError(f"{where}: has a wrong checksum")
    if version >> 16 != _VERSION >> 16:
        raise UnsupportedError(f"{where}: has version {version >> 16}.{version & 0xFFFF}; only 1.x is known")
    if block & (block - 1) or not MIN_BLOCK_BYTES <= block <= MAX_BLOCK_BYTES:
        raise CorruptInputError(
            f"{where}: has blocks of {block} bytes, not a power of two from 4 KiB to 256 MiB"
        )
    return DynamicHeader(
        table_offset_bytes=table,
        table_entries=entries,
        block_bytes=block,
        parent_id=parent[0],
        parent_timestamp_s=parent[1],
        parent_name=name.decode("utf-16-be", errors="replace").partition("\0")[0],
        locators=tuple(
            LocatorEntry.unpack(locators[start : start + LOCATOR_BYTES])
            for start in range(0, LOCATOR_COUNT * LOCATOR_BYTES, LOCATOR_BYTES)
        ),
    )


def _check_table(header: DynamicHeader, footer: Footer, file_bytes: int, where: str) -> None:
    blocks = -(-footer.current_size_bytes // header.block_bytes)
    if blocks > MAX_BLOCKS:
        raise UnsupportedError(
            f"{where}: needs {blocks} blocks of {header.block_bytes} bytes; at most {MAX_BLOCKS}"
        )
    if header.table_entries < blocks:
        raise CorruptInputError(
            f"{where}: has a table of {header.table_entries} blocks, but the disk has {blocks}"
        )
    if header.table_offset_bytes % SECTOR_BYTES or header.table_offset_bytes + 4 * blocks > file_bytes:
        raise CorruptInputError(
            f"{where}: puts a table of {blocks} blocks at {header.table_offset_bytes}, not inside the file"
        )
