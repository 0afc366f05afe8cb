"""The metadata table and the items that describe the virtual disk ([MS-VHDX] 2.6)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from uuid import UUID

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.still import MAX_DISK_BYTES, SECTOR_SIZES, Geometry
from stillframe.disk.vhdx.errors import MetadataError, UnsupportedVhdxError
from stillframe.disk.vhdx.layout import KIB, MIB
from stillframe.disk.vhdx.region_table import Region

FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
VIRTUAL_DISK_SIZE = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
VIRTUAL_DISK_ID = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
LOGICAL_SECTOR_SIZE = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL_SECTOR_SIZE = UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
PARENT_LOCATOR = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
INCOMPLETE_FILE = UUID("71CC85F0-1B69-4E28-9558-C3BF83AE75D3")  # not in [MS-VHDX]; openvmm writes it
_KNOWN = (
    FILE_PARAMETERS,
    VIRTUAL_DISK_SIZE,
    VIRTUAL_DISK_ID,
    LOGICAL_SECTOR_SIZE,
    PHYSICAL_SECTOR_SIZE,
    PARENT_LOCATOR,
)

MIN_BLOCK_BYTES = MIB
MAX_BLOCK_BYTES = 256 * MIB

_TABLE_BYTES = 64 * KIB
_SIGNATURE = b"metadata"
_HEADER = struct.Struct("<8s2xH20x")
_ENTRY = struct.Struct("<16sIII4x")
_MAX_ENTRIES = 2047
_MAX_ITEM_BYTES = MIB
_PARAMETERS = struct.Struct("<II")
_LEAVE_BLOCKS_ALLOCATED = 1
_HAS_PARENT = 2


class ItemFlags(IntFlag):
    USER = 1
    VIRTUAL_DISK = 2
    REQUIRED = 4


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the items say. ``parent_locator`` is the raw item, present exactly if the disk has a parent."""

    block_bytes: int
    leave_blocks_allocated: bool
    geometry: Geometry
    disk_id: UUID
    parent_locator: bytes | None

    @property
    def has_parent(self) -> bool:
        return self.parent_locator is not None


@dataclass(frozen=True, slots=True)
class _Entry:
    item_id: UUID
    offset_bytes: int  # in the region
    length_bytes: int
    flags: ItemFlags


def read_metadata(reader: RandomReader, region: Region) -> Metadata:
    """Read the table and the items that we know; unknown ones are ignored unless they are required.

    Raises:
        MetadataError: an item is missing, impossible, or overlaps another.
        UnsupportedVhdxError: an unknown item must be understood, or the file's creation never finished.
    """
    table = _Table(reader, region)
    block_bytes, flags = _PARAMETERS.unpack(table.item(FILE_PARAMETERS, _PARAMETERS.size))
    if flags & ~(_LEAVE_BLOCKS_ALLOCATED | _HAS_PARENT):
        raise table.error(FILE_PARAMETERS, f"unknown flags 0x{flags:X}")
    if not MIN_BLOCK_BYTES <= block_bytes <= MAX_BLOCK_BYTES or block_bytes & (block_bytes - 1):
        raise table.error(FILE_PARAMETERS, f"block size {block_bytes}: not a power of two from 1 to 256 MiB")
    return Metadata(
        block_bytes=block_bytes,
        leave_blocks_allocated=bool(flags & _LEAVE_BLOCKS_ALLOCATED),
        geometry=_geometry(table),
        disk_id=UUID(bytes_le=table.item(VIRTUAL_DISK_ID, 16)),
        parent_locator=table.item(PARENT_LOCATOR) if flags & _HAS_PARENT else None,
    )


def encode_metadata(metadata: Metadata) -> bytes:
    """The start of a metadata region: table and items, without padding behind."""
    items = list(_encoded_items(metadata))
    table, contents = b"", b""
    for item_id, flags, content in items:
        table += _ENTRY.pack(item_id.bytes_le, _TABLE_BYTES + len(contents), len(content), flags)
        contents += content
    return (_HEADER.pack(_SIGNATURE, len(items)) + table).ljust(_TABLE_BYTES, b"\0") + contents


def _encoded_items(metadata: Metadata) -> Iterator[tuple[UUID, ItemFlags, bytes]]:
    described = ItemFlags.REQUIRED | ItemFlags.VIRTUAL_DISK
    geometry = metadata.geometry
    flags = _LEAVE_BLOCKS_ALLOCATED * metadata.leave_blocks_allocated | _HAS_PARENT * metadata.has_parent
    yield FILE_PARAMETERS, ItemFlags.REQUIRED, _PARAMETERS.pack(metadata.block_bytes, flags)
    yield VIRTUAL_DISK_SIZE, described, struct.pack("<Q", geometry.size_bytes)
    yield VIRTUAL_DISK_ID, described, metadata.disk_id.bytes_le
    yield LOGICAL_SECTOR_SIZE, described, struct.pack("<I", geometry.logical_sector_bytes)
    yield PHYSICAL_SECTOR_SIZE, described, struct.pack("<I", geometry.physical_sector_bytes)
    if metadata.parent_locator is not None:
        yield PARENT_LOCATOR, ItemFlags.REQUIRED, metadata.parent_locator


def _geometry(table: _Table) -> Geometry:
    size = int.from_bytes(table.item(VIRTUAL_DISK_SIZE, 8), "little")
    logical = int.from_bytes(table.item(LOGICAL_SECTOR_SIZE, 4), "little")
    physical = int.from_bytes(table.item(PHYSICAL_SECTOR_SIZE, 4), "little")
    for item_id, sector in ((LOGICAL_SECTOR_SIZE, logical), (PHYSICAL_SECTOR_SIZE, physical)):
        if sector not in SECTOR_SIZES:
            raise table.error(item_id, f"sector size {sector}: only 512 and 4096 exist")
    if size % logical or not 0 < size <= MAX_DISK_BYTES:
        raise table.error(VIRTUAL_DISK_SIZE, f"virtual disk size {size}: not whole sectors, up to 64 TiB")
    return Geometry(size, logical, physical)


class _Table:
    """The checked table, giving the contents of system items."""

    def __init__(self, reader: RandomReader, region: Region) -> None:
        self._reader = reader
        self._region = region
        entries = self._entries()
        self._check_unique(entries)
        self._check_disjoint(entries)
        self._system = {entry.item_id: entry for entry in entries if not entry.flags & ItemFlags.USER}

    def item(self, item_id: UUID, length_bytes: int | None = None) -> bytes:
        """An item's contents, which must have the given length."""
        entry = self._system.get(item_id)
        if entry is None:
            raise self.error(item_id, "the item is missing")
        if length_bytes is not None and entry.length_bytes != length_bytes:
            raise self.error(item_id, f"the item has {entry.length_bytes} bytes, not {length_bytes}")
        return read_bytes(self._reader, self._region.offset_bytes + entry.offset_bytes, entry.length_bytes)

    def error(self, item_id: UUID, what: str) -> MetadataError:
        return MetadataError(self._reader.name, self._region.offset_bytes, f"metadata item {item_id}: {what}")

    def _entries(self) -> list[_Entry]:
        table = read_bytes(self._reader, self._region.offset_bytes, _TABLE_BYTES)
        signature, count = _HEADER.unpack_from(table)
        if signature != _SIGNATURE or count > _MAX_ENTRIES:
            what = f"not a metadata table (signature {signature!r}, {count} entries)"
            raise MetadataError(self._reader.name, self._region.offset_bytes, what)
        raw = (_ENTRY.unpack_from(table, _HEADER.size + index * _ENTRY.size) for index in range(count))
        entries = [
            _Entry(UUID(bytes_le=item), at, length, ItemFlags(flags & 7)) for item, at, length, flags in raw
        ]
        for entry in entries:
            self._check(entry)
        return entries

    def _check(self, entry: _Entry) -> None:
        if entry.item_id == INCOMPLETE_FILE:
            raise UnsupportedVhdxError(f"{self._reader.name}: the creation of this file never finished")
        if entry.flags & ItemFlags.REQUIRED and entry.item_id not in _KNOWN:
            raise UnsupportedVhdxError(
                f"{self._reader.name}: the required metadata item {entry.item_id} is unknown"
            )
        if entry.length_bytes > _MAX_ITEM_BYTES:
            raise self.error(entry.item_id, f"{entry.length_bytes} bytes; 1 MiB is the most")
        end_bytes = entry.offset_bytes + entry.length_bytes
        if entry.length_bytes and (
            entry.offset_bytes < _TABLE_BYTES or end_bytes > self._region.length_bytes
        ):
            raise self.error(entry.item_id, f"lies outside its region, at {entry.offset_bytes}")

    def _check_unique(self, entries: list[_Entry]) -> None:
        seen: set[tuple[UUID, ItemFlags]] = set()
        for entry in entries:
            key = entry.item_id, entry.flags & ItemFlags.USER
            if key in seen:
                raise self.error(entry.item_id, "is listed twice")
            seen.add(key)

    def _check_disjoint(self, entries: list[_Entry]) -> None:
        end_bytes = 0
        for entry in sorted(
            (each for each in entries if each.length_bytes), key=lambda each: each.offset_bytes
        ):
            if entry.offset_bytes < end_bytes:
                raise self.error(entry.item_id, "overlaps another item")
            end_bytes = entry.offset_bytes + entry.length_bytes
