from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems.readers import DiskReader
from stillframe.recovery.overlay import Overlay, OverlayFullError
from tests.recovery.images import BytesDisk

SIZE = 40_000  # not a multiple of a page


@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 13_000), st.integers(0, 255)), max_size=12)
)
def test_an_overlay_reads_as_a_disk_that_was_written(writes: list[tuple[int, int, int]]) -> None:
    model = bytearray(random.Random(0).randbytes(SIZE))
    overlay = Overlay(DiskReader(BytesDisk(model)))
    for offset, length, value in writes:
        data = bytes([value]) * min(length, SIZE - offset)
        overlay.write(offset, data)
        model[offset : offset + len(data)] = data
    for offset, length, _ in [*writes, (0, SIZE, 0)]:
        buffer = bytearray(min(length, SIZE - offset))
        overlay.read_into(offset, memoryview(buffer))
        assert buffer == model[offset : offset + len(buffer)]
    overlay.close()


def test_what_lies_below_is_not_touched_and_the_limit_holds() -> None:
    below = DiskReader(BytesDisk(bytes(1 << 20)))
    overlay = Overlay(below, limit_bytes=8192)
    overlay.write(0, b"x" * 8192)
    with pytest.raises(OverlayFullError):
        overlay.write(100_000, b"y")
    overlay.write(4000, b"again")
    buffer = bytearray(8192)
    below.read_into(0, memoryview(buffer))
    assert not any(buffer)
    assert overlay.written_bytes == 8192
    overlay.close()


def test_a_write_beyond_the_end_is_refused() -> None:
    overlay = Overlay(DiskReader(BytesDisk(bytes(4096))))
    with pytest.raises(CorruptInputError):
        overlay.write(4090, b"1234567")
    overlay.close()
