import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.disk.qcow2 import open_qcow2
from stillframe.disk.still import Extent, ExtentKind
from stillframe.errors import CorruptInputError, StillframeError, UnsupportedError
from tests.disk.disks import MemoryReader, check_extents, contents
from tests.disk.qcow2.images import CLUSTER, COMPRESSED, CONTENTS, L1_OFFSET, L2_OFFSET, image


def opened(data: bytes) -> object:
    return open_qcow2(MemoryReader(data, "disk.qcow2"), path=None)


def test_stored_zero_compressed_and_unmapped_clusters() -> None:
    disk = open_qcow2(MemoryReader(image()), path=Path("/images/disk.qcow2"))
    assert contents(disk) == CONTENTS
    assert check_extents(disk) == [
        Extent(0, CLUSTER),
        Extent(CLUSTER, CLUSTER, ExtentKind.ZERO),
        Extent(2 * CLUSTER, CLUSTER),
        Extent(3 * CLUSTER, 37 * CLUSTER, ExtentKind.UNMAPPED),
    ]
    assert disk.disk_id == "/images/disk.qcow2"
    piece = bytearray(CLUSTER)
    disk.read_into(2 * CLUSTER + 100, memoryview(piece))
    assert piece == b"z" * (CLUSTER - 100) + bytes(100)


def test_version_2_knows_no_zero_flag() -> None:
    disk = open_qcow2(MemoryReader(image(version=2)), path=None)
    assert [extent.kind for extent in disk.extents()] == [ExtentKind.DATA, ExtentKind.UNMAPPED]
    with pytest.raises(CorruptInputError, match="zero cluster"):
        contents(disk)


@pytest.mark.parametrize(
    ("fields", "error", "told"),
    [
        ({"version": 4}, UnsupportedError, "version 4"),
        ({"backing_offset": 512}, UnsupportedError, "backing file, which is not opened"),
        ({"encryption": 1}, UnsupportedError, "encrypted"),
        ({"incompatible": 4}, UnsupportedError, "in a file that is not opened"),
        ({"incompatible": 16}, UnsupportedError, "subclusters"),
        ({"incompatible": 32}, UnsupportedError, "unknown features"),
        ({"incompatible": 8, "compression": 2}, UnsupportedError, "unknown method"),
        ({"cluster_bits": 8}, CorruptInputError, "clusters"),
        ({"cluster_bits": 22}, CorruptInputError, "clusters"),
        ({"size": 0}, CorruptInputError, "0 bytes"),
        ({"size": (64 << 40) + 1}, CorruptInputError, "not 1 to 64 TiB"),
        ({"size": 64 << 40}, UnsupportedError, "more than are read here"),
        ({"size": 1 << 30}, CorruptInputError, "the disk needs 512"),
        ({"l1_offset": 1 << 50}, CorruptInputError, "not inside the file"),
        ({"l1_offset": CLUSTER + 8}, CorruptInputError, "not inside the file"),
    ],
)
def test_a_header_that_cannot_be_served_is_refused_by_name(
    fields: dict[str, int], error: type[StillframeError], told: str
) -> None:
    with pytest.raises(error, match=rf"disk\.qcow2.*{told}"):
        opened(image(**fields))


def test_dirty_reference_counts_do_not_concern_a_reader_but_corruption_is_noted() -> None:
    disk = open_qcow2(MemoryReader(image(incompatible=3, snapshots=2)), path=None)
    assert contents(disk) == CONTENTS
    assert [note.split()[0] for note in disk.facts.notes] == ["QEMU", "has"]


@pytest.mark.parametrize(
    ("offset", "entry", "told"),
    [
        (L1_OFFSET, 1 << 40, "second-level table lies at 1099511627776"),
        (L1_OFFSET, L2_OFFSET + 512, "second-level table lies at 8704"),
        (L2_OFFSET, 1 << 40, "cluster lies at 1099511627776"),
        (L2_OFFSET, CLUSTER + 512, "cluster lies at 4608"),
        (L2_OFFSET, COMPRESSED | 1 << 40, "compressed cluster lies at 1099511627776"),
        (L2_OFFSET, COMPRESSED | 3 * CLUSTER, "compressed cluster at 12288 is damaged"),
    ],
)
def test_a_bad_table_entry_is_named_when_it_is_read(offset: int, entry: int, told: str) -> None:
    data = bytearray(image())
    data[offset : offset + 8] = entry.to_bytes(8)
    disk = open_qcow2(MemoryReader(data, "disk.qcow2"), path=None)
    with pytest.raises(CorruptInputError, match=rf"disk\.qcow2.*{told}"):
        contents(disk)


def exercise(data: bytes) -> None:
    disk = open_qcow2(MemoryReader(data), path=None)
    size = disk.geometry.size_bytes
    sum(extent.length_bytes for _, extent in zip(range(5000), disk.extents(), strict=False))
    for start in {0, size // 2, max(0, size - 100_000)}:
        with suppress(StillframeError):
            disk.read_into(start, memoryview(bytearray(min(100_000, size - start))))


places = st.one_of(
    st.integers(0, 112), st.integers(L1_OFFSET, L1_OFFSET + 8), st.integers(L2_OFFSET, L2_OFFSET + 9000)
)
numbers = st.sampled_from([1, 9, 16, 21, 1 << 20, 1 << 40, 1 << 62, (1 << 64) - 1])
values = st.one_of(st.binary(min_size=1, max_size=8), numbers.map(lambda number: number.to_bytes(8)))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(places, values), min_size=1, max_size=6))
def test_mutated_images_fail_by_name_or_not_at_all(mutations: list[tuple[int, bytes]]) -> None:
    data = bytearray(image())
    for offset, new in mutations:
        data[offset : offset + len(new)] = new
    tracemalloc.start()
    try:
        with suppress(StillframeError):
            exercise(bytes(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 64 << 20
