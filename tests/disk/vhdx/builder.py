"""VHDX files made by hand from [MS-VHDX], byte by byte; shares no code with the product."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from tests.disk.vhdx.sources import MemoryReader

KIB = 1 << 10
MIB = 1 << 20
NO_LOG = UUID(int=0)
LOG_ID = UUID("11111111-2222-3333-4444-555555555555")
OTHER_LOG_ID = UUID("99999999-2222-3333-4444-555555555555")
FILE_WRITE_ID = UUID("aaaaaaaa-0000-0000-0000-000000000001")
DATA_WRITE_ID = UUID("bbbbbbbb-0000-0000-0000-000000000002")
DISK_ID = UUID("cccccccc-0000-0000-0000-000000000003")

BAT = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
METADATA = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
DISK_SIZE = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
DISK_ID_ITEM = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
LOGICAL = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL = UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
LOCATOR = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
VHDX_PARENT = UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")

LOG_AT = MIB
METADATA_AT = 2 * MIB
BAT_AT = 3 * MIB
BLOCKS_AT = 4 * MIB


@lru_cache(maxsize=64)
def crc32c(data: bytes) -> int:
    """CRC-32C by table; slow, and not the library that the product uses."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def sealed(structure: bytes) -> bytes:
    cleared = structure[:4] + bytes(4) + structure[8:]
    return cleared[:4] + struct.pack("<I", crc32c(cleared)) + cleared[8:]


@dataclass(frozen=True)
class HeaderFields:
    sequence: int = 5
    file_write_id: UUID = FILE_WRITE_ID
    data_write_id: UUID = DATA_WRITE_ID
    log_id: UUID = NO_LOG
    log_version: int = 0
    version: int = 1
    log_length: int = MIB
    log_offset: int = LOG_AT

    def encode(self) -> bytes:
        ids = b"".join(each.bytes_le for each in (self.file_write_id, self.data_write_id, self.log_id))
        numbers = struct.pack("<HHIQ", self.log_version, self.version, self.log_length, self.log_offset)
        return sealed(
            (b"head" + bytes(4) + struct.pack("<Q", self.sequence) + ids + numbers).ljust(4096, b"\0")
        )


def region_table(*regions: tuple[UUID, int, int, int]) -> bytes:
    """Regions as ``(id, offset, length, flags)``."""
    entries = b"".join(each[0].bytes_le + struct.pack("<QII", *each[1:]) for each in regions)
    return sealed((b"regi" + bytes(4) + struct.pack("<II", len(regions), 0) + entries).ljust(64 * KIB, b"\0"))


def metadata_region(items: list[tuple[UUID, int, bytes]]) -> bytes:
    """Items as ``(id, flags, contents)``."""
    table = b"metadata" + struct.pack("<HH", 0, len(items)) + bytes(20)
    contents = b""
    for item_id, flags, content in items:
        at = 64 * KIB + len(contents) if content else 0
        table += item_id.bytes_le + struct.pack("<IIII", at, len(content), flags, 0)
        contents += content
    return table.ljust(64 * KIB, b"\0") + contents


def locator(pairs: dict[str, str], kind: UUID = VHDX_PARENT) -> bytes:
    strings, entries = b"", b""
    base = 20 + 12 * len(pairs)
    for key, value in pairs.items():
        raw = key.encode("utf-16-le"), value.encode("utf-16-le")
        at = base + len(strings)
        entries += struct.pack("<IIHH", at, at + len(raw[0]), len(raw[0]), len(raw[1]))
        strings += raw[0] + raw[1]
    return kind.bytes_le + struct.pack("<HH", 0, len(pairs)) + entries + strings


@dataclass(frozen=True)
class DiskBuilder:
    """A small file: log at 1 MiB, metadata at 2, BAT at 3, blocks from 4 MiB on."""

    disk_bytes: int = 8 * MIB
    block_bytes: int = MIB
    logical: int = 512
    physical: int = 4096
    parameter_flags: int = 0
    parent: dict[str, str] | None = None
    entries: dict[int, int] = field(default_factory=dict)  # BAT by index
    pieces: tuple[tuple[int, bytes], ...] = ()
    header: HeaderFields = HeaderFields()
    second_header: HeaderFields | None = None
    file_bytes: int = 16 * MIB
    extra_items: tuple[tuple[UUID, int, bytes], ...] = ()
    extra_regions: tuple[tuple[UUID, int, int, int], ...] = ()
    bat_bytes: int = MIB

    def with_(self, **changes: object) -> DiskBuilder:
        return replace(self, **changes)  # type: ignore[arg-type]

    def items(self) -> list[tuple[UUID, int, bytes]]:
        flags = self.parameter_flags | (2 if self.parent is not None else 0)
        items = [
            (FILE_PARAMETERS, 4, struct.pack("<II", self.block_bytes, flags)),
            (DISK_SIZE, 6, struct.pack("<Q", self.disk_bytes)),
            (DISK_ID_ITEM, 6, DISK_ID.bytes_le),
            (LOGICAL, 6, struct.pack("<I", self.logical)),
            (PHYSICAL, 6, struct.pack("<I", self.physical)),
        ]
        if self.parent is not None:
            items.append((LOCATOR, 4, locator(self.parent)))
        return [*items, *self.extra_items]

    def structures(self) -> list[tuple[int, bytes]]:
        table = region_table(
            (BAT, BAT_AT, self.bat_bytes, 1), (METADATA, METADATA_AT, MIB, 1), *self.extra_regions
        )
        headers = self.header, self.second_header or replace(self.header, sequence=self.header.sequence + 1)
        return [
            (0, b"vhdxfile" + "by hand".encode("utf-16-le")),
            (64 * KIB, headers[0].encode()),
            (128 * KIB, headers[1].encode()),
            (192 * KIB, table),
            (256 * KIB, table),
            (METADATA_AT, metadata_region(self.items())),
            *((BAT_AT + 8 * index, struct.pack("<Q", entry)) for index, entry in self.entries.items()),
        ]

    def reader(self, *patches: tuple[int, bytes]) -> MemoryReader:
        return MemoryReader(self.file_bytes, [*self.structures(), *self.pieces, *patches])

    def write(self, path: Path) -> Path:
        with path.open("wb") as file:
            file.truncate(self.file_bytes)
            for offset, piece in [*self.structures(), *self.pieces]:
                file.seek(offset)
                file.write(piece)
        return path


# --- the log ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Write:
    """A data descriptor: 4 KiB onto an offset."""

    offset: int
    contents: bytes


@dataclass(frozen=True)
class Zero:
    offset: int
    length: int


@dataclass(frozen=True)
class EntryFields:
    """One log entry; ``position`` and ``tail`` are relative to the log."""

    position: int
    sequence: int
    changes: tuple[Write | Zero, ...] = ()
    tail: int | None = None  # itself
    log_id: UUID = LOG_ID
    flushed: int = 0
    last: int = 0

    def encode(self) -> bytes:
        descriptors = b"".join(self._descriptor(change) for change in self.changes)
        data = b"".join(self._data_sector(each) for each in self.changes if isinstance(each, Write))
        leading = -(-(64 + len(descriptors)) // 4096) * 4096
        tail = self.position if self.tail is None else self.tail
        header = struct.pack(
            "<4sIIIQII", b"loge", 0, leading + len(data), tail, self.sequence, len(self.changes), 0
        )
        header += self.log_id.bytes_le + struct.pack("<QQ", self.flushed, self.last)
        return sealed((header + descriptors).ljust(leading, b"\0") + data)

    def _descriptor(self, change: Write | Zero) -> bytes:
        if isinstance(change, Write):
            page = change.contents.ljust(4096, b"\0")
            start = b"desc" + page[4092:] + page[:8]
        else:
            start = b"zero" + bytes(4) + struct.pack("<Q", change.length)
        return start + struct.pack("<QQ", change.offset, self.sequence)

    def _data_sector(self, change: Write) -> bytes:
        middle = change.contents.ljust(4096, b"\0")[8:4092]
        high, low = struct.pack("<I", self.sequence >> 32), struct.pack("<I", self.sequence & 0xFFFFFFFF)
        return b"data" + high + middle + low

    @property
    def length(self) -> int:
        return len(self.encode())


def log_area(*entries: EntryFields, length: int = MIB) -> list[tuple[int, bytes]]:
    """Pieces of the file that hold the entries; those that reach over the end of the log wrap."""
    pieces = []
    for entry in entries:
        raw = entry.encode()
        fits = min(len(raw), length - entry.position)
        pieces.append((LOG_AT + entry.position, raw[:fits]))
        pieces.append((LOG_AT, raw[fits:]))
    return pieces


def chained(
    start: int, first_sequence: int, *changes: tuple[Write | Zero, ...], **fields: object
) -> list[EntryFields]:
    """Entries one behind the other, each needing all of its predecessors."""
    entries, position = [], start
    for index, change in enumerate(changes):
        entry = EntryFields(position, first_sequence + index, change, tail=start, **fields)  # type: ignore[arg-type]
        entries.append(entry)
        position = (position + entry.length) % MIB
    return entries


def dirty(builder: DiskBuilder, *entries: EntryFields) -> DiskBuilder:
    """The same file with a log that must be replayed."""
    header = replace(builder.header, log_id=LOG_ID)
    return builder.with_(header=header, pieces=(*builder.pieces, *log_area(*entries)))


def present(offset: int) -> int:
    return offset | 6


def partial(offset: int) -> int:
    return offset | 7


def bat_page(entries: dict[int, int]) -> bytes:
    page = bytearray(4096)
    for index, entry in entries.items():
        struct.pack_into("<Q", page, 8 * index, entry)
    return bytes(page)
