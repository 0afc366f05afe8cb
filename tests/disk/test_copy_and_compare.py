import threading
import tracemalloc
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.disk.compare import compare_disks
from stillframe.disk.convert import copy_disk, finishing
from stillframe.disk.read_ahead import PIECE_BYTES, ahead, pieces
from stillframe.disk.still import Extent, ExtentKind, Geometry
from stillframe.disk.zeros import STEP_BYTES, is_zero, nonzero_runs
from stillframe.errors import CorruptInputError
from tests.disk.disks import MemoryDisk, MemoryTarget

MIB = 1 << 20
UNIT = 32 << 10  # half of the step in which zeros are looked for


@st.composite
def disks(draw: st.DrawFn) -> MemoryDisk:
    """A disk of some runs: data, zeros in data, and ranges that the format knows to be zero."""
    data, extents = bytearray(), []
    for kind, units, fill in draw(
        st.lists(
            st.tuples(st.sampled_from(list(ExtentKind)), st.integers(1, 40), st.sampled_from([0, 0, 7])),
            min_size=1,
            max_size=8,
        )
    ):
        content = bytes([fill if kind is ExtentKind.DATA else 0]) * (units * UNIT)
        extents.append(Extent(len(data), len(content), kind))
        data += content
    return MemoryDisk(bytes(data), extents)


class Counting:
    """Progress that adds up."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self._lock = threading.Lock()

    def begin(self, description: str, total_bytes: int | None) -> None:
        self.total = total_bytes

    def advance(self, done_bytes: int) -> None:
        with self._lock:
            self.done += done_bytes


@settings(max_examples=80, deadline=None)
@given(disks())
def test_a_copy_is_equal_covers_everything_and_reads_only_data(source: MemoryDisk) -> None:
    target, progress = MemoryTarget(len(source.data)), Counting()
    statistics = copy_disk(source, target, progress)
    assert target.data == source.data
    assert all(target.covered)  # an in-place target must be told of every zero as well
    assert progress.done == progress.total == len(source.data)
    assert statistics.written_bytes == target.covered.count(b"w")
    assert (
        statistics.written_bytes + statistics.found_zero_bytes + statistics.known_zero_bytes == progress.total
    )
    known = [extent for extent in source.extents() if extent.kind is not ExtentKind.DATA]
    assert statistics.known_zero_bytes == sum(extent.length_bytes for extent in known)
    for start, length in source.reads:
        assert length <= PIECE_BYTES
        assert not any(e.offset_bytes < start + length and start < e.end_bytes for e in known)


def test_zeros_inside_data_are_not_written() -> None:
    source = MemoryDisk(bytes(MIB) + bytes(STEP_BYTES) + b"x" * STEP_BYTES + bytes(STEP_BYTES))
    target = MemoryTarget(len(source.data))
    assert copy_disk(source, target).written_bytes == STEP_BYTES


class Generated(MemoryDisk):
    """A disk that is made as it is read."""

    def __init__(self, size_bytes: int, bad_at: int | None = None) -> None:
        super().__init__(b"")
        self._size_bytes = size_bytes
        self._bad_at = bad_at

    @property
    def geometry(self) -> Geometry:
        return Geometry(self._size_bytes)

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self._size_bytes)

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        if self._bad_at is not None and offset_bytes <= self._bad_at < offset_bytes + len(buffer):
            raise CorruptInputError(f"damaged at {self._bad_at}")
        buffer[:] = b"x" * len(buffer)


class Discarding:
    def write(self, offset_bytes: int, data: memoryview | bytes) -> None: ...
    def zero(self, extent: Extent) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...


def test_memory_stays_bounded_however_large_the_disk() -> None:
    tracemalloc.start()
    try:
        copy_disk(Generated(200 * MIB), Discarding())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * MIB


def test_a_damaged_source_stops_the_copy_and_aborts_the_target() -> None:
    target = MemoryTarget(20 * MIB)
    with pytest.raises(CorruptInputError, match="damaged"), finishing(target):
        copy_disk(Generated(20 * MIB, bad_at=9 * MIB), target)
    assert target.ended == "aborted"
    assert not any(target.covered[9 * MIB :])


def test_a_target_that_cannot_finish_is_aborted() -> None:
    class Failing(MemoryTarget):
        def finish(self) -> None:
            raise CorruptInputError("no space")

    target = Failing(512)
    with pytest.raises(CorruptInputError), finishing(target):
        pass
    assert target.ended == "aborted"


@settings(max_examples=80, deadline=None)
@given(disks(), disks(), st.data())
def test_the_first_difference_is_found(first: MemoryDisk, second: MemoryDisk, data: st.DataObject) -> None:
    assert compare_disks(first, MemoryDisk(first.data)) is None
    changed = bytearray(first.data)
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= 0xFF
    assert compare_disks(first, MemoryDisk(bytes(changed))) == place
    shorter = min(len(first.data), len(second.data))
    expected = next((at for at in range(0, shorter, UNIT) if first.data[at] != second.data[at]), None)
    if expected is None and len(first.data) != len(second.data):
        expected = shorter
    assert compare_disks(first, second) == expected


def test_what_both_know_to_be_zero_is_not_read() -> None:
    extents = [Extent(0, MIB, ExtentKind.ZERO), Extent(MIB, MIB)]
    first = MemoryDisk(bytes(2 * MIB), extents)
    second = MemoryDisk(bytes(2 * MIB), [Extent(0, 2 * MIB, ExtentKind.UNMAPPED)])
    progress = Counting()
    assert compare_disks(first, second, progress) is None
    assert (first.reads, second.reads) == ([(MIB, MIB)], [])
    assert progress.done == progress.total == 2 * MIB


def test_of_disks_of_two_sizes_the_end_of_the_smaller_is_the_difference() -> None:
    assert compare_disks(MemoryDisk(bytes(MIB)), MemoryDisk(bytes(MIB + 512))) == MIB


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12), st.integers(0, 99))
def test_runs_that_are_not_zero(parts: list[tuple[int, bool]], tail: int) -> None:
    buffer = bytearray()
    for steps, zero in parts:
        buffer += bytes([not zero]) * (steps * STEP_BYTES)
    buffer += bytes(tail)
    runs = list(nonzero_runs(buffer))
    rebuilt = bytearray(len(buffer))
    for start, stop in runs:
        rebuilt[start:stop] = buffer[start:stop]
    assert rebuilt == buffer
    assert sum(stop - start for start, stop in runs) == buffer.count(1)
    assert is_zero(buffer) == (not any(parts) or 1 not in buffer)


def test_pieces_are_cut_at_whole_mebibytes() -> None:
    cut = list(pieces([Extent(MIB - 1, 2 * MIB + 2)]))
    assert [(each.offset_bytes, each.length_bytes) for each in cut] == [
        (MIB - 1, 1),
        (MIB, MIB),
        (2 * MIB, MIB),
        (3 * MIB, 1),
    ]


def test_work_runs_ahead_but_not_far() -> None:
    begun: list[int] = []
    results = ahead(lambda item: (begun.append(item), item)[1], count())
    for expected in range(50):
        item, result = next(results)
        assert item == result == expected
        assert len(begun) <= expected + 17
    results.close()
