"""The disk to measure with and its changes: the same for the same seed, made of what its description says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from benchmarks.changes import PIECE_BYTES, merged, places, write_changed
from benchmarks.generator import PAGE_BYTES, SHARES, Kind, contents, generate, layout, text
from hypothesis import given, settings
from hypothesis import strategies as st

MIB = 1 << 20


def test_same_seed_same_disk(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / name, 8 * MIB, seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again
    assert first != other


@settings(max_examples=30, deadline=None)
@given(pages=st.integers(1, 1 << 16), seed=st.integers(0, 1 << 32))
def test_runs_cover_the_disk_in_their_shares(pages: int, seed: int) -> None:
    runs = layout(pages * PAGE_BYTES, seed)
    end_bytes = 0
    held: Counter[Kind] = Counter()
    for run in runs:
        assert run.offset_bytes == end_bytes
        end_bytes += run.length_bytes
        held[run.kind] += run.length_bytes
    assert end_bytes == pages * PAGE_BYTES
    for kind, share in SHARES.items():
        assert held[kind] == int(pages * share) * PAGE_BYTES


def test_a_copied_file_comes_several_times_and_alike(tmp_path: Path) -> None:
    runs = layout(256 * MIB, 1)
    times = Counter(run.source for run in runs if run.kind is Kind.COPY)
    assert max(times.values()) >= 5
    source = max(times, key=lambda each: times[each])
    assert len({contents(run, 1) for run in runs if run.kind is Kind.COPY and run.source == source}) == 1


def test_zero_runs_are_holes(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    runs = generate(disk, 16 * MIB, 1)
    assert disk.stat().st_size == 16 * MIB
    zero_bytes = sum(run.length_bytes for run in runs if run.kind is Kind.ZERO)
    assert disk.stat().st_blocks * 512 <= 16 * MIB - zero_bytes + MIB  # the file system takes some
    for run in runs:
        if run.kind is Kind.ZERO:
            assert not any(disk.read_bytes()[run.offset_bytes : run.offset_bytes + run.length_bytes])


def test_text_shrinks_like_text_and_has_near_copies() -> None:
    import zlib

    written = text(np.random.default_rng(1), MIB)
    assert len(written) == MIB
    assert 0.25 < len(zlib.compress(written, 6)) / MIB < 0.5
    lines = Counter(written[place : place + 256] for place in range(0, MIB, 256))
    assert 0.1 < (len(written) // 256 - len(lines)) / (len(written) // 256) < 0.2


@pytest.mark.parametrize("size_bytes", [0, -PAGE_BYTES, PAGE_BYTES + 1])
def test_a_disk_has_whole_pages(size_bytes: int) -> None:
    with pytest.raises(ValueError, match="whole pages"):
        layout(size_bytes, 1)


def test_changes_are_what_the_extents_say_and_nothing_else(tmp_path: Path) -> None:
    base, changed, extents = tmp_path / "base", tmp_path / "changed", tmp_path / "extents.json"
    generate(base, 16 * MIB, 1)
    written_bytes = write_changed(base, changed, extents, 0.05, 1)
    before, after = base.read_bytes(), changed.read_bytes()
    differing = [
        place
        for place in range(0, len(before), PIECE_BYTES)
        if before[place : place + PIECE_BYTES] != after[place : place + PIECE_BYTES]
    ]
    said = json.loads(extents.read_text())
    assert len(differing) * PIECE_BYTES == written_bytes == round(256 * 0.05) * PIECE_BYTES
    assert merged(differing) == said


def test_places_are_distinct_and_spread() -> None:
    offsets = places(1 << 30, 0.01, 1)
    assert len(set(offsets)) == len(offsets) == 164
    assert min(offsets) < 1 << 27
    assert max(offsets) > 7 << 27


def test_neighbours_are_joined() -> None:
    assert merged([0, PIECE_BYTES, 4 * PIECE_BYTES]) == [[0, 2 * PIECE_BYTES], [4 * PIECE_BYTES, PIECE_BYTES]]
