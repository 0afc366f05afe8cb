import shutil
from pathlib import Path

import pytest

from stillframe.disk.parents import MAX_CHAIN_DEPTH, ParentNotFoundError
from stillframe.disk.still import Extent, ExtentKind
from stillframe.errors import CorruptInputError
from tests.disk.disks import check_extents, contents
from tests.disk.vhd.shapes import MIB, make_child, make_vhd, open_file, patch

HEADER = 512
LOCATOR = 2048  # behind the table of a small disk


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_vhd(tmp_path / "base.vhd", [(0, b"B" * 2 * MIB)])


@pytest.fixture
def child(base: Path, tmp_path: Path) -> Path:
    return make_child(tmp_path / "child.vhd", base, [(512, b"C" * 512)])


def test_a_child_shows_its_own_sectors_over_its_parents(child: Path, base: Path) -> None:
    disk = open_file(child)
    assert contents(disk) == b"B" * 512 + b"C" * 512 + b"B" * (2 * MIB - 1024) + bytes(2 * MIB)
    assert disk.disk_id == open_file(base).disk_id
    assert (disk.facts.kind, disk.facts.parents) == ("differencing", (str(base),))


def test_extents_of_a_child_are_its_own_and_its_parents(child: Path) -> None:
    assert check_extents(open_file(child)) == [
        Extent(0, 512),
        Extent(512, 512),
        Extent(1024, 2 * MIB - 1024),
        Extent(2 * MIB, 2 * MIB, ExtentKind.UNMAPPED),
    ]


@pytest.mark.parametrize("size_bytes", [1 * MIB + 512, 5 * MIB])
def test_a_child_that_was_resized_has_its_own_size_and_zeros_beyond_its_parent(
    tmp_path: Path, size_bytes: int
) -> None:
    base = make_vhd(tmp_path / "base.vhd", [(0, b"B" * (2 * MIB + 512))], size_bytes=2 * MIB + 512)
    child = make_child(tmp_path / "child.vhd", base, [(0, b"C" * 512)], size_bytes=size_bytes)
    disk = open_file(child)
    expected = (b"C" * 512 + b"B" * 2 * MIB).ljust(5 * MIB, b"\0")[:size_bytes]
    assert contents(disk) == expected
    check_extents(disk)


def test_sector_bits_count_from_the_most_significant(child: Path) -> None:
    data = child.read_bytes()
    bitmap = int.from_bytes(data[1536:1540]) * 512
    assert data[bitmap] == 0b0100_0000


def test_a_missing_parent_is_named_with_what_to_do(child: Path, base: Path) -> None:
    base.unlink()
    with pytest.raises(
        ParentNotFoundError, match=r"child\.vhd: its parent was not found.*base\.vhd"
    ) as caught:
        open_file(child)
    assert "--parent-dir" in caught.value.hint


def test_a_parent_elsewhere_is_found_only_where_the_operator_allows(
    child: Path, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    base.rename(other / "base.vhd")
    with pytest.raises(ParentNotFoundError):
        open_file(child)
    assert contents(open_file(child, search=[other])).startswith(b"B" * 512 + b"C")


def test_a_relative_path_does_not_leave_the_folder(base: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    child = make_child(inner / "child.vhd", base)
    with pytest.raises(ParentNotFoundError, match="outside the folders") as caught:
        open_file(child)
    assert str(tmp_path) in caught.value.hint
    assert contents(open_file(child, search=[tmp_path])).startswith(b"BB")


def test_a_link_does_not_lead_out_of_the_folder(
    child: Path, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    shutil.move(base, outside / "base.vhd")
    base.symlink_to(outside / "base.vhd")
    with pytest.raises(ParentNotFoundError, match="outside the folders"):
        open_file(child)


def test_the_childs_real_folder_counts_when_it_is_itself_a_link(child: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "child.vhd").symlink_to(child)
    assert contents(open_file(links / "child.vhd")).startswith(b"BB")


def test_an_absolute_windows_path_is_found_by_its_last_part(child: Path) -> None:
    path = "D:\\machines\\base.vhd".encode("utf-16-le")
    patch(child, HEADER + 576, b"W2ku")
    patch(child, HEADER + 576 + 8, len(path).to_bytes(4))
    patch(child, LOCATOR, path)
    assert contents(open_file(child)).startswith(b"BB")


@pytest.mark.parametrize(
    ("length", "path", "told"),
    [
        (0, b"", "path of 0 bytes"),
        (7, b"", "path of 7 bytes"),
        (1 << 31, b"", "path of 2147483648 bytes"),
        (4, b"\0\0\0\0", "holds no path"),
        (6, "a\0b".encode("utf-16-le"), "holds no path"),
        (4, b"\0\xd8a\0", "is not UTF-16"),
    ],
)
def test_a_bad_locator_is_named(child: Path, length: int, path: bytes, told: str) -> None:
    patch(child, HEADER + 576 + 8, length.to_bytes(4))
    patch(child, LOCATOR, path)
    with pytest.raises(CorruptInputError, match=rf"child\.vhd: parent locator W2ru at 2048.*{told}"):
        open_file(child)


def test_a_locator_outside_the_file_is_refused(child: Path) -> None:
    patch(child, HEADER + 576 + 16, (1 << 63).to_bytes(8))
    with pytest.raises(CorruptInputError, match="is not inside the file"):
        open_file(child)


def test_another_disk_under_the_parents_name_is_refused(child: Path, base: Path) -> None:
    base.unlink()
    make_vhd(base, [(0, b"other")])
    with pytest.raises(CorruptInputError, match="was made on another parent"):
        open_file(child)


def test_a_disk_that_is_its_own_parent_is_refused(child: Path) -> None:
    name = ".\\child.vhd".encode("utf-16-le")
    patch(child, HEADER + 576 + 8, len(name).to_bytes(4))
    patch(child, LOCATOR, name)
    with pytest.raises(CorruptInputError, match="cycle"):
        open_file(child)


def test_a_chain_reads_through_and_is_bounded(base: Path, tmp_path: Path) -> None:
    below = base
    for number in range(1, MAX_CHAIN_DEPTH):
        below = make_child(tmp_path / f"{number}.vhd", below, [(number * 512, bytes([number]) * 512)])
    disk = open_file(below)
    read = contents(disk)
    assert [read[number * 512] for number in range(1, MAX_CHAIN_DEPTH)] == list(range(1, MAX_CHAIN_DEPTH))
    assert len(disk.facts.parents) == MAX_CHAIN_DEPTH - 1
    disk.close()
    with pytest.raises(CorruptInputError, match="deeper than 64"):
        open_file(make_deep(below, tmp_path))


def make_deep(below: Path, folder: Path) -> Path:
    """A child of a chain that is as deep as may be: made by hand, since no such parent can be opened."""
    top = make_child(folder / "top.vhd", folder / "1.vhd")
    patch(top, HEADER + 40, below.read_bytes()[68:84])
    name = f".\\{below.name}".encode("utf-16-le")
    patch(top, HEADER + 576 + 8, len(name).to_bytes(4))
    patch(top, LOCATOR, name)
    return top


def test_failing_to_open_leaves_no_file_open(child: Path, base: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    patch(base, HEADER, b"damaged!")
    with pytest.raises(CorruptInputError):
        open_file(child)
    assert (
        len(list(Path("/proc/self/fd").iterdir())) - before <= 1
    )  # the child's own, which the caller closes
