"""The region table: where the BAT, the metadata and unknown regions lie ([MS-VHDX] 2.2.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.vhdx.errors import RegionTableError, UnsupportedVhdxError
from stillframe.disk.vhdx.layout import (
    FIRST_FREE_BYTES,
    KIB,
    MIB,
    REGION_TABLE_OFFSETS,
    checksum_holds,
    sealed,
)

BAT_REGION = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
METADATA_REGION = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")

_TABLE_BYTES = 64 * KIB
_SIGNATURE = b"regi"
_HEADER = struct.Struct("<4s4xI4x")
_ENTRY = struct.Struct("<16sQII")
_MAX_ENTRIES = 2047
_REQUIRED = 1


@dataclass(frozen=True, slots=True)
class Region:
    """A region of the file. Unknown ones are kept too: no block may lie over them."""

    region_id: UUID
    offset_bytes: int
    length_bytes: int
    required: bool

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes


@dataclass(frozen=True, slots=True)
class RegionTable:
    """All regions, and the two that every file has."""

    regions: tuple[Region, ...]
    bat: Region
    metadata: Region


def read_region_table(reader: RandomReader) -> RegionTable:
    """The first valid of the two copies; to be read through the replayed log, which may rewrite both.

    Raises:
        RegionTableError: neither copy is valid, or a region is impossible.
        UnsupportedVhdxError: an unknown region must be understood to read the file.
    """
    for offset in REGION_TABLE_OFFSETS:
        structure = read_bytes(reader, offset, _TABLE_BYTES)
        if structure.startswith(_SIGNATURE) and checksum_holds(structure):
            return _table(reader, offset, tuple(_entries(reader, offset, structure)))
    raise RegionTableError(reader.name, REGION_TABLE_OFFSETS[0], "neither of the two region tables is valid")


def encode_region_table(regions: Iterable[Region]) -> bytes:
    entries = [
        _ENTRY.pack(each.region_id.bytes_le, each.offset_bytes, each.length_bytes, int(each.required))
        for each in regions
    ]
    table = _HEADER.pack(_SIGNATURE, len(entries)) + b"".join(entries)
    return sealed(table.ljust(_TABLE_BYTES, b"\0"))


def _entries(reader: RandomReader, table_offset: int, structure: bytes) -> Iterable[Region]:
    _, count = _HEADER.unpack_from(structure)
    if count > _MAX_ENTRIES:
        raise RegionTableError(reader.name, table_offset, f"{count} regions; {_MAX_ENTRIES} are the most")
    for index in range(count):
        region_id, offset, length, flags = _ENTRY.unpack_from(structure, _HEADER.size + index * _ENTRY.size)
        yield Region(UUID(bytes_le=region_id), offset, length, bool(flags & _REQUIRED))


def _table(reader: RandomReader, table_offset: int, regions: tuple[Region, ...]) -> RegionTable:
    for region in regions:
        _check_region(reader, table_offset, region)
    known = {region.region_id: region for region in regions}
    if len(known) != len(regions):
        raise RegionTableError(reader.name, table_offset, "a region is listed twice")
    if BAT_REGION not in known or METADATA_REGION not in known:
        raise RegionTableError(reader.name, table_offset, "the BAT or the metadata region is missing")
    return RegionTable(regions, known[BAT_REGION], known[METADATA_REGION])


def _check_region(reader: RandomReader, table_offset: int, region: Region) -> None:
    if region.required and region.region_id not in (BAT_REGION, METADATA_REGION):
        raise UnsupportedVhdxError(f"{reader.name}: the required region {region.region_id} is unknown")
    offset, length = region.offset_bytes, region.length_bytes
    if offset < FIRST_FREE_BYTES or offset % MIB or length == 0 or length % MIB:
        what = f"region {region.region_id} at {offset}, length {length}: both must be whole MiB"
        raise RegionTableError(reader.name, table_offset, what)
    if region.end_bytes > reader.size_bytes:
        what = f"region {region.region_id} ends at {region.end_bytes}; the file has {reader.size_bytes} bytes"
        raise RegionTableError(reader.name, table_offset, what)
