from dataclasses import replace

import pytest

from stillframe.disk.vhd.checksum import checksum
from stillframe.disk.vhd.footer import Footer, VhdType, find_footer, looks_like_vhd, parse_footer
from stillframe.disk.vhd.geometry import ChsGeometry, chs_geometry
from stillframe.errors import CorruptInputError, StillframeError, UnsupportedError
from tests.disk.disks import MemoryReader

FOOTER = Footer(
    kind=VhdType.DYNAMIC,
    current_size_bytes=4 << 20,
    original_size_bytes=4 << 20,
    header_offset_bytes=512,
    timestamp_s=7,
    creator=b"win ",
    creator_version=0x000A_0000,
    creator_host=b"Wi2k",
    geometry=chs_geometry(4 << 20),
    unique_id=bytes(range(16)),
)
FIXED = replace(FOOTER, kind=VhdType.FIXED)


def test_what_is_packed_parses_back() -> None:
    assert parse_footer(FOOTER.pack(), "here") == FOOTER
    assert len(FOOTER.pack()) == 512


def test_the_id_is_shown_as_windows_shows_it() -> None:
    assert FOOTER.disk_id == "03020100-0504-0706-0809-0a0b0c0d0e0f"


def changed(offset: int, value: bytes) -> bytes:
    footer = bytearray(FOOTER.pack())
    footer[offset : offset + len(value)] = value
    footer[64:68] = checksum(bytes(footer), 64).to_bytes(4)
    return bytes(footer)


@pytest.mark.parametrize(
    ("offset", "value", "error", "told"),
    [
        (0, b"connectix", CorruptInputError, "conectix"),
        (12, b"\0\2\0\0", UnsupportedError, "version 2.0"),
        (60, b"\0\0\0\5", CorruptInputError, "type 5"),
        (48, bytes(8), CorruptInputError, "0 bytes"),
        (48, (513).to_bytes(8), CorruptInputError, "513 bytes"),
        (48, ((2040 << 30) + 512).to_bytes(8), CorruptInputError, "not a number of sectors"),
        (48, b"\xff" * 8, CorruptInputError, "not a number of sectors"),
    ],
)
def test_a_wrong_field_is_named(offset: int, value: bytes, error: type[StillframeError], told: str) -> None:
    with pytest.raises(error, match=rf"here.*{told}"):
        parse_footer(changed(offset, value), "here")


def test_a_wrong_checksum_is_named() -> None:
    damaged = bytearray(FOOTER.pack())
    damaged[90] ^= 1
    with pytest.raises(CorruptInputError, match="checksum"):
        parse_footer(bytes(damaged), "here")


def test_the_footer_at_the_end_comes_first() -> None:
    other = replace(FOOTER, timestamp_s=8)
    found = find_footer(MemoryReader(other.pack() + bytes(4096) + FOOTER.pack()))
    assert (found.footer, found.offset_bytes, found.note) == (FOOTER, 512 + 4096, "")


def test_the_copy_stands_in_for_a_damaged_end_and_says_so() -> None:
    reader = MemoryReader(FOOTER.pack() + bytes(5000))
    assert looks_like_vhd(reader)
    found = find_footer(reader)
    assert (found.footer, found.offset_bytes) == (FOOTER, 0)
    assert "copy at the beginning" in found.note


def test_old_writers_left_out_the_last_byte() -> None:
    reader = MemoryReader(bytes(4 << 20) + FIXED.pack()[:511])
    assert looks_like_vhd(reader)
    assert find_footer(reader).footer == FIXED


def test_a_fixed_disk_has_no_copy_to_fall_back_on() -> None:
    with pytest.raises(CorruptInputError, match="cut off"):
        find_footer(MemoryReader(FIXED.pack() + bytes(4096)))


@pytest.mark.parametrize("length", [0, 7, 8, 511, 512, 513])
def test_short_files_without_a_footer_are_refused_by_name(length: int) -> None:
    reader = MemoryReader(bytes(length), name="short.vhd")
    assert not looks_like_vhd(reader)
    with pytest.raises(CorruptInputError, match=r"short\.vhd"):
        find_footer(reader)


@pytest.mark.parametrize(
    ("size_bytes", "geometry"),
    [
        (136_365_211_648, ChsGeometry(65278, 16, 255)),  # a disk that Windows Server 2012 R2 made
        (2040 << 30, ChsGeometry(65535, 16, 255)),
        (4 << 20, ChsGeometry(120, 4, 17)),
        (512 << 20, ChsGeometry(1040, 16, 63)),
        (100 << 20, ChsGeometry(1003, 12, 17)),
    ],
)
def test_geometry_follows_the_appendix(size_bytes: int, geometry: ChsGeometry) -> None:
    assert chs_geometry(size_bytes) == geometry
