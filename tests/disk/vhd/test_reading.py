from pathlib import Path

import pytest

from stillframe.disk.still import CannotTellChangesError, Extent, ExtentKind
from stillframe.errors import CorruptInputError, StillframeError, UnsupportedError
from tests.disk.disks import check_extents, contents
from tests.disk.vhd.shapes import MIB, make_vhd, open_file, patch

HEADER = 512
TABLE = 1536
BLOCK = 1 * MIB


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    """4 MiB in blocks of 1 MiB, the second and the fourth there."""
    return make_vhd(
        tmp_path / "disk.vhd", [(BLOCK + 5, b"second"), (4 * BLOCK - 6, b"fourth")], block_bytes=BLOCK
    )


def entry(number: int) -> int:
    return TABLE + 4 * number


def test_blocks_are_data_and_the_rest_was_never_written(dynamic: Path) -> None:
    disk = open_file(dynamic)
    assert check_extents(disk) == [
        Extent(0, BLOCK, ExtentKind.UNMAPPED),
        Extent(BLOCK, BLOCK),
        Extent(2 * BLOCK, BLOCK, ExtentKind.UNMAPPED),
        Extent(3 * BLOCK, BLOCK),
    ]
    expected = bytearray(4 * BLOCK)
    expected[BLOCK + 5 : BLOCK + 11] = b"second"
    expected[-6:] = b"fourth"
    assert contents(disk) == expected


def test_the_data_of_a_dynamic_disk_counts_whatever_its_bitmap_says(dynamic: Path) -> None:
    before = contents(open_file(dynamic))
    start = int.from_bytes(dynamic.read_bytes()[entry(1) : entry(1) + 4]) * 512
    patch(dynamic, start, bytes(512))
    assert contents(open_file(dynamic)) == before


def test_reads_outside_the_disk_are_refused(dynamic: Path) -> None:
    disk = open_file(dynamic)
    for offset, length in ((-1, 1), (4 * BLOCK, 1), (4 * BLOCK - 1, 2)):
        with pytest.raises(ValueError, match="leaves the disk"):
            disk.read_into(offset, memoryview(bytearray(length)))


def test_a_file_tracks_no_changes(dynamic: Path) -> None:
    disk = open_file(dynamic)
    assert disk.token is None
    with pytest.raises(CannotTellChangesError):
        disk.changed("yesterday")


@pytest.mark.parametrize(
    ("offset", "value", "error", "told"),
    [
        (HEADER, b"cxsparze", CorruptInputError, "cxsparse"),
        (HEADER + 24, b"\0\2\0\0", UnsupportedError, "version 2"),
        (HEADER + 32, (3 << 20).to_bytes(4), CorruptInputError, "blocks of 3145728 bytes"),
        (HEADER + 32, (2048).to_bytes(4), CorruptInputError, "blocks of 2048"),
        (HEADER + 32, (1 << 31).to_bytes(4), CorruptInputError, "blocks of 2147483648"),
        (HEADER + 28, (3).to_bytes(4), CorruptInputError, "table of 3 blocks, but the disk has 4"),
        (HEADER + 16, (1 << 60).to_bytes(8), CorruptInputError, "not inside the file"),
        (HEADER + 16, (1537).to_bytes(8), CorruptInputError, "not inside the file"),
        (entry(0), (1 << 31).to_bytes(4), CorruptInputError, "beyond the end of the file"),
        (entry(0), (3).to_bytes(4), CorruptInputError, "lies over the block allocation table"),
        (entry(0), (1).to_bytes(4), CorruptInputError, "lies over the dynamic disk header"),
        (entry(0), (0).to_bytes(4), CorruptInputError, "lies over the copy of the footer"),
    ],
)
def test_a_wrong_field_is_named(
    dynamic: Path, offset: int, value: bytes, error: type[StillframeError], told: str
) -> None:
    patch(dynamic, offset, value)
    with pytest.raises(error, match=rf"disk\.vhd.*{told}"):
        open_file(dynamic)


def test_a_header_outside_the_file_is_refused(dynamic: Path) -> None:
    for where in (0, dynamic.stat().st_size - 512):
        patch(dynamic, where + 16, (1 << 62).to_bytes(8))
    with pytest.raises(CorruptInputError, match="dynamic disk header at 4611686018427387904: is not inside"):
        open_file(dynamic)


@pytest.mark.parametrize("shift_sectors", [0, 1, -1, BLOCK // 512])
def test_blocks_that_share_space_are_refused(dynamic: Path, shift_sectors: int) -> None:
    second = int.from_bytes(dynamic.read_bytes()[entry(1) : entry(1) + 4])
    patch(dynamic, entry(2), (second + shift_sectors).to_bytes(4))
    with pytest.raises(CorruptInputError, match="two blocks share the space"):
        open_file(dynamic)


def test_a_damaged_end_is_survived_by_the_copy_and_noted(dynamic: Path) -> None:
    before = contents(open_file(dynamic))
    data = bytearray(dynamic.read_bytes())
    data[-512:] = b"\xaa" * 512
    dynamic.write_bytes(data)
    disk = open_file(dynamic)
    assert contents(disk) == before
    assert "may be torn" in disk.facts.notes[0]


def test_the_part_of_the_last_block_that_no_guest_sees_may_be_cut_off(tmp_path: Path) -> None:
    size = 2 * BLOCK + 512
    path = make_vhd(tmp_path / "odd.vhd", [(size - 4, b"last")], size_bytes=size, block_bytes=BLOCK)
    data = path.read_bytes()
    path.write_bytes(data[: -512 - BLOCK + 512] + data[-512:])
    assert contents(open_file(path)).endswith(b"last")
    path.write_bytes(data[: -512 - BLOCK] + data[-512:])
    with pytest.raises(CorruptInputError, match="beyond the end"):
        open_file(path)


def test_a_fixed_disk_cut_short_is_refused(tmp_path: Path) -> None:
    path = make_vhd(tmp_path / "fixed.vhd", kind="fixed")
    path.write_bytes(path.read_bytes()[512:])
    with pytest.raises(CorruptInputError, match="fixed VHD of 4194304 bytes with its footer at 4193792"):
        open_file(path)


def test_a_sparse_fixed_disk_shows_its_holes(tmp_path: Path) -> None:
    path = make_vhd(tmp_path / "fixed.vhd", [(2 * MIB, b"x" * 4096)], kind="fixed")
    kinds = {extent.kind for extent in check_extents(open_file(path))}
    assert kinds == {ExtentKind.DATA, ExtentKind.UNMAPPED}


def test_closing_closes_the_file(dynamic: Path) -> None:
    disk = open_file(dynamic)
    disk.close()
    with pytest.raises(CorruptInputError):
        disk.read_into(BLOCK, memoryview(bytearray(1)))
