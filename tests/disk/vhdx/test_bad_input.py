"""Each rule that a file can break, the error that names it, and what it must never cost."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest

from stillframe.disk.vhdx.errors import (
    BlockMapError,
    CorruptVhdxError,
    IdentifierError,
    MetadataError,
    RegionTableError,
    UnsupportedVhdxError,
)
from stillframe.disk.vhdx.layout import MAX_FILE_BYTES
from stillframe.errors import StillframeError
from tests.disk.vhdx import builder as by_hand
from tests.disk.vhdx.builder import (
    BAT,
    BAT_AT,
    BLOCKS_AT,
    KIB,
    METADATA,
    METADATA_AT,
    MIB,
    DiskBuilder,
    partial,
    present,
)
from tests.disk.vhdx.reading import open_memory
from tests.disk.vhdx.sources import MemoryReader

GOOD = DiskBuilder(entries={0: present(BLOCKS_AT), 3: present(BLOCKS_AT + MIB)})
UNKNOWN = UUID("deadbeef-0000-0000-0000-000000000000")
LINKAGE = {"parent_linkage": f"{{{UUID(int=1)}}}", "relative_path": "parent.vhdx"}


def refused(reader: MemoryReader, error: type[StillframeError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        open_memory(reader)
    assert str(caught.value).startswith("memory: "), "the message names the file"


def test_the_good_one_is_good() -> None:
    open_memory(GOOD.reader())


def test_not_a_vhdx() -> None:
    refused(GOOD.reader((0, b"VHDXFILE")), IdentifierError, "signature")
    refused(MemoryReader(MIB - 1, []), IdentifierError, "ends within")
    refused(MemoryReader(MAX_FILE_BYTES + 1, []), UnsupportedVhdxError, "we allow")


def test_truncated_anywhere() -> None:
    """Cut at every MiB and a little around it: an error, or (behind the last block) the disk."""
    whole = GOOD.reader()
    for size in sorted({mib * MIB + off for mib in range(17) for off in (-4096, -1, 0, 1)}):
        if 0 <= size < BLOCKS_AT + 2 * MIB:
            with pytest.raises(StillframeError):
                open_memory(whole.cut(size))
        elif size > 0:
            open_memory(whole.cut(size))


def tables(*regions: tuple[UUID, int, int, int]) -> MemoryReader:
    table = by_hand.region_table(*regions)
    return GOOD.reader((192 * KIB, table), (256 * KIB, table))


BAT_REGION = (BAT, BAT_AT, MIB, 1)
METADATA_REGION = (METADATA, METADATA_AT, MIB, 1)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([BAT_REGION], "missing"),
        ([METADATA_REGION], "missing"),
        ([], "missing"),
        ([BAT_REGION, METADATA_REGION, BAT_REGION], "twice"),
        ([(BAT, BAT_AT + 4096, MIB, 1), METADATA_REGION], "whole MiB"),
        ([(BAT, BAT_AT, 0, 1), METADATA_REGION], "whole MiB"),
        ([(BAT, BAT_AT, 4096, 1), METADATA_REGION], "whole MiB"),
        ([(BAT, 0, MIB, 1), METADATA_REGION], "whole MiB"),
        ([(BAT, 16 * MIB, MIB, 1), METADATA_REGION], "the file has"),
        ([(BAT, (1 << 64) - MIB, MIB, 1), METADATA_REGION], "the file has"),
        ([(BAT, METADATA_AT, MIB, 1), METADATA_REGION], "overlaps"),
        ([(BAT, MIB, MIB, 1), METADATA_REGION], "overlaps"),
        ([BAT_REGION, METADATA_REGION, (UNKNOWN, BAT_AT, MIB, 0)], "overlaps"),
    ],
)
def test_impossible_regions(regions: list[tuple[UUID, int, int, int]], message: str) -> None:
    refused(tables(*regions), RegionTableError, message)


def test_unknown_regions() -> None:
    refused(tables(BAT_REGION, METADATA_REGION, (UNKNOWN, 8 * MIB, MIB, 1)), UnsupportedVhdxError, "unknown")
    open_memory(tables(BAT_REGION, METADATA_REGION, (UNKNOWN, 8 * MIB, MIB, 0)))
    over_a_block = tables(BAT_REGION, METADATA_REGION, (UNKNOWN, BLOCKS_AT, MIB, 0))
    refused(over_a_block, BlockMapError, "shares its place")


def test_known_regions_need_no_required_flag() -> None:
    """QEMU 1.6 wrote them without."""
    open_memory(tables((BAT, BAT_AT, MIB, 0), (METADATA, METADATA_AT, MIB, 0)))


def test_the_second_region_table_serves_if_the_first_is_torn() -> None:
    open_memory(GOOD.reader((192 * KIB + 20, b"torn")))
    refused(GOOD.reader((192 * KIB + 20, b"x"), (256 * KIB, b"x")), RegionTableError, "neither")


def test_too_many_regions() -> None:
    table = bytearray(by_hand.region_table(BAT_REGION, METADATA_REGION))
    struct.pack_into("<I", table, 8, 2048)
    sealed = by_hand.sealed(bytes(table))
    refused(GOOD.reader((192 * KIB, sealed)), RegionTableError, "2048 regions")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_bytes": 3 * MIB}, "block size"),
        ({"block_bytes": 512 * KIB}, "block size"),
        ({"block_bytes": 512 * MIB}, "block size"),
        ({"block_bytes": 0}, "block size"),
        ({"parameter_flags": 4}, "flags"),
        ({"logical": 520}, "sector size 520"),
        ({"physical": 0}, "sector size 0"),
        ({"disk_bytes": 0}, "virtual disk size 0"),
        ({"disk_bytes": 1000}, "virtual disk size 1000"),
        ({"disk_bytes": (64 << 40) + 512}, "virtual disk size"),
        ({"disk_bytes": (1 << 64) - 512}, "virtual disk size"),
        ({"parameter_flags": 2}, "missing"),
        ({"extra_items": ((by_hand.LOGICAL, 6, b"1234"),)}, "twice"),
    ],
)
def test_impossible_metadata(changes: dict, message: str) -> None:
    refused(GOOD.with_(**changes).reader(), MetadataError, message)


@pytest.mark.parametrize(
    ("offset", "piece", "message"),
    [
        (0, b"metadatA", "not a metadata table"),
        (10, struct.pack("<H", 2048), "2048 entries"),
        (32 + 16, struct.pack("<I", 4096), "outside its region"),
        (32 + 16, struct.pack("<I", MIB - 4), "outside its region"),
        (32 + 20, struct.pack("<I", 4), "not 8"),
        (32 + 20, struct.pack("<I", 0), "not 8"),
        (32 + 20, struct.pack("<I", 0xFFFFFFFF), "1 MiB is the most"),
        (32 + 32 + 16, struct.pack("<I", 64 * KIB + 4), "overlaps"),
        (32, bytes(16), "missing|unknown"),
    ],
)
def test_damaged_metadata(offset: int, piece: bytes, message: str) -> None:
    with pytest.raises(StillframeError, match=message):
        open_memory(GOOD.reader((METADATA_AT + offset, piece)))


def test_unknown_metadata() -> None:
    open_memory(GOOD.with_(extra_items=((UNKNOWN, 2, b"whatever"), (UNKNOWN, 1, b""))).reader())
    refused(GOOD.with_(extra_items=((UNKNOWN, 4, b"x"),)).reader(), UnsupportedVhdxError, "unknown")
    unfinished = UUID("71CC85F0-1B69-4E28-9558-C3BF83AE75D3")
    refused(GOOD.with_(extra_items=((unfinished, 4, b""),)).reader(), UnsupportedVhdxError, "never finished")


def test_a_user_item_with_a_system_id_is_another_item() -> None:
    open_memory(GOOD.with_(extra_items=((by_hand.DISK_SIZE, 1, b"12345678"),)).reader())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({0: 4}, "block 0 has a reserved state"),
        ({7: 5}, "block 7 has a reserved state"),
        ({0: present(BLOCKS_AT) | 8}, "reserved bits"),
        ({0: partial(BLOCKS_AT)}, "no parent"),
        ({0: present(0)}, "outside the file"),
        ({0: present(16 * MIB)}, "outside the file"),
        ({0: present((1 << 64) - MIB)}, "outside the file"),
        ({0: present(MIB)}, "shares its place"),
        ({0: present(METADATA_AT)}, "shares its place"),
        ({0: present(BAT_AT)}, "shares its place"),
        ({0: present(BLOCKS_AT), 1: present(BLOCKS_AT)}, "shares its place"),
        ({0: present(BLOCKS_AT), 7: present(BLOCKS_AT)}, "shares its place"),
    ],
)
def test_impossible_blocks(entries: dict[int, int], message: str) -> None:
    refused(DiskBuilder(entries=entries).reader(), BlockMapError, message)


def test_blocks_that_overlap_by_a_part() -> None:
    entries = {0: present(BLOCKS_AT), 1: present(BLOCKS_AT + 3 * MIB)}
    builder = DiskBuilder(disk_bytes=16 * MIB, block_bytes=4 * MIB, entries=entries)
    refused(builder.reader(), BlockMapError, "shares its place")


def test_blocks_far_from_each_other_in_the_table_that_overlap() -> None:
    """They are seen in different batches."""
    entries = {0: present(BLOCKS_AT), 4097 * 3 + 2: present(BLOCKS_AT)}
    refused(DiskBuilder(disk_bytes=16 << 30, entries=entries).reader(), BlockMapError, "shares its place")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({0: partial(BLOCKS_AT)}, "sector bitmap 0 is needed"),
        ({0: partial(BLOCKS_AT), 4096: present(BLOCKS_AT)}, "shares its place"),
        ({4096: present(MIB)}, "shares its place"),
        ({4096: present(0)}, "outside the file"),
        ({4096: present(16 * MIB)}, "outside the file"),
        ({4096: 2}, "reserved state 2"),
    ],
)
def test_impossible_sector_bitmaps(entries: dict[int, int], message: str) -> None:
    refused(DiskBuilder(parent=LINKAGE, entries=entries).reader(), BlockMapError, message)


def test_unused_entries_of_the_last_chunk_are_ignored() -> None:
    builder = DiskBuilder(parent=LINKAGE, entries={8: present(0), 4095: 5})
    with pytest.raises(StillframeError, match="parent cannot be looked for"):
        open_memory(builder.reader())


def test_a_bat_too_short_for_its_disk() -> None:
    refused(DiskBuilder(disk_bytes=1 << 40).reader(), BlockMapError, "the disk needs")


def test_errors_carry_file_and_offset() -> None:
    with pytest.raises(CorruptVhdxError) as caught:
        open_memory(DiskBuilder(entries={2: 4}).reader())
    assert caught.value.file == "memory"
    assert caught.value.offset_bytes == BAT_AT + 16
    assert str(BAT_AT + 16) in str(caught.value)
