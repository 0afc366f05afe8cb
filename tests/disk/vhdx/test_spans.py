"""Sets of ranges against a set of numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from stillframe.disk.vhdx.spans import SpanSet

SIZE = 40
spans = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))


@given(st.lists(spans, max_size=8), spans)
def test_equals_a_set_of_numbers(added: list[tuple[int, int]], window: tuple[int, int]) -> None:
    found, model = SpanSet(), set[int]()
    for start, end in added:
        found.add(start, end)
        model |= set(range(start, end))
    assert [found.covers(each) for each in range(SIZE)] == [each in model for each in range(SIZE)]
    assert bool(found) == bool(model)
    inside = list(found.within(*window))
    assert [each for start, end in inside for each in range(start, end)] == sorted(
        model & set(range(*window))
    )
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(inside)), "touching are joined"
