"""One VHDX file, opened and checked, without its parent.

The order matters ([MS-VHDX] 2.1): identifier, headers, log; then region table, metadata, BAT. Nothing at or
above 192 KiB may be trusted before the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stillframe.disk.reader import RandomReader
from stillframe.disk.vhdx.bat import Bat, BatShape
from stillframe.disk.vhdx.checks import FileSpace, check_blocks
from stillframe.disk.vhdx.errors import RegionTableError, UnsupportedVhdxError
from stillframe.disk.vhdx.header import Header, read_current_header
from stillframe.disk.vhdx.identifier import read_creator
from stillframe.disk.vhdx.layout import FIRST_FREE_BYTES, MAX_FILE_BYTES, MIB, REGION_TABLE_OFFSETS
from stillframe.disk.vhdx.locator import ParentLocator, parse_locator
from stillframe.disk.vhdx.map_pages import MapPages
from stillframe.disk.vhdx.metadata import Metadata, read_metadata
from stillframe.disk.vhdx.overlay import Replay, replayed
from stillframe.disk.vhdx.region_table import Region, RegionTable, read_region_table
from stillframe.disk.vhdx.sector_bitmap import SectorBitmaps


@dataclass(frozen=True, slots=True)
class Image:
    """``reader`` shows the file with its log replayed."""

    reader: RandomReader
    path: Path | None
    creator: str
    header: Header
    replay: Replay
    metadata: Metadata
    locator: ParentLocator | None
    bat: Bat
    bitmaps: SectorBitmaps

    @property
    def name(self) -> str:
        return self.reader.name


def open_image(file: RandomReader, path: Path | None, pages: MapPages) -> Image:
    """Read and check all that describes the disk; no guest data is read.

    Raises:
        CorruptVhdxError: the file breaks a rule of its format.
        UnsupportedVhdxError: it needs something that we do not know or do not allow.
    """
    if file.size_bytes > MAX_FILE_BYTES:
        raise UnsupportedVhdxError(f"{file.name}: {file.size_bytes} bytes; we allow {MAX_FILE_BYTES}")
    creator = read_creator(file)
    header = read_current_header(file)
    reader, replay = replayed(file, header)
    table = read_region_table(reader)
    space = _taken_by_regions(reader, header, table)
    metadata = read_metadata(reader, table.metadata)
    bat = _bat(reader, table.bat, metadata, pages)
    check_blocks(bat, space)
    locator = _locator(reader, table.metadata, metadata)
    bitmaps = SectorBitmaps(reader, bat, pages)
    return Image(reader, path, creator, header, replay, metadata, locator, bat, bitmaps)


def _bat(reader: RandomReader, region: Region, metadata: Metadata, pages: MapPages) -> Bat:
    shape = BatShape(metadata.geometry, metadata.block_bytes, metadata.has_parent)
    return Bat(reader, region, shape, pages)


def _locator(reader: RandomReader, region: Region, metadata: Metadata) -> ParentLocator | None:
    if metadata.parent_locator is None:
        return None
    return parse_locator(metadata.parent_locator, file=reader.name, offset_bytes=region.offset_bytes)


def _taken_by_regions(reader: RandomReader, header: Header, table: RegionTable) -> FileSpace:
    space = FileSpace(reader.size_bytes)
    places = [(region.offset_bytes, region.length_bytes) for region in table.regions]
    if header.log_length_bytes:
        places.append((header.log_offset_bytes, header.log_length_bytes))
    for offset_bytes, length_bytes in [(0, FIRST_FREE_BYTES), *places]:
        if not space.take(offset_bytes // MIB, length_bytes // MIB):
            what = f"the region or log at {offset_bytes} overlaps another"
            raise RegionTableError(reader.name, REGION_TABLE_OFFSETS[0], what)
    return space
