"""Where the writer puts things, and the structures that it wraps around the blocks.

Log (empty) at 1 MiB, metadata at 2 MiB, BAT at 3 MiB, as Windows lays them; then, in a differencing disk,
one MiB per chunk for its sector bitmap; then the payload in slots of one block each. The file is sparse, so
what is not used costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from stillframe.disk.staged import StagedFile
from stillframe.disk.vhdx.bat import BatShape
from stillframe.disk.vhdx.header import Header, encode_header
from stillframe.disk.vhdx.identifier import encode_identifier
from stillframe.disk.vhdx.layout import HEADER_OFFSETS, MIB, REGION_TABLE_OFFSETS, round_up
from stillframe.disk.vhdx.metadata import Metadata, encode_metadata
from stillframe.disk.vhdx.region_table import BAT_REGION, METADATA_REGION, Region, encode_region_table

CREATOR = "Stillframe"
LOG_OFFSET = MIB
METADATA_OFFSET = 2 * MIB
BAT_OFFSET = 3 * MIB
_NO_LOG = UUID(int=0)


@dataclass(frozen=True, slots=True)
class FilePlan:
    shape: BatShape

    @property
    def bat_bytes(self) -> int:
        return round_up(self.shape.bytes, MIB)

    @property
    def bitmaps_offset(self) -> int:
        return BAT_OFFSET + self.bat_bytes

    @property
    def payload_offset(self) -> int:
        return self.bitmap_offset(self.shape.bitmap_blocks if self.shape.has_parent else 0)

    def bitmap_offset(self, chunk: int) -> int:
        return self.bitmaps_offset + chunk * MIB

    def slot_offset(self, slot: int) -> int:
        """Where a slot begins; of the first unused slot: the file's size."""
        return self.payload_offset + slot * self.shape.block_bytes


def write_regions(file: StagedFile, plan: FilePlan, metadata: Metadata) -> None:
    """Metadata and both region tables. Nothing makes the file a VHDX yet."""
    file.write(METADATA_OFFSET, encode_metadata(metadata))
    table = encode_region_table(
        [
            Region(BAT_REGION, BAT_OFFSET, plan.bat_bytes, required=True),
            Region(METADATA_REGION, METADATA_OFFSET, MIB, required=True),
        ]
    )
    for offset in REGION_TABLE_OFFSETS:
        file.write(offset, table)


def write_headers(file: StagedFile, file_write_id: UUID, data_write_id: UUID) -> None:
    """Both headers, one number apart as an update leaves them, and the identifier: now it is a VHDX file."""
    for sequence, offset in enumerate(HEADER_OFFSETS, start=1):
        header = Header(sequence, file_write_id, data_write_id, _NO_LOG, 0, 1, MIB, LOG_OFFSET)
        file.write(offset, encode_header(header))
    file.write(0, encode_identifier(CREATOR))
