"""Hostile files: nothing but our own errors comes out, nothing hangs, and memory stays within 64 MiB."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.disk.still import StillDisk
from stillframe.disk.vhdx import open_vhdx
from stillframe.errors import StillframeError
from tests.disk.vhdx.builder import MIB, DiskBuilder
from tests.disk.vhdx.mutations import mutated
from tests.disk.vhdx.sources import MemoryReader

BOUND = 64 * MIB
SOAK_SECONDS = 600


@pytest.fixture(scope="module")
def child_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the mutated child pretends to lie: beside a real parent."""
    folder = tmp_path_factory.mktemp("chain")
    DiskBuilder(entries={0: (4 << 20) | 6}, pieces=((4 << 20, b"p" * 4096),)).write(folder / "parent.vhdx")
    return folder / "child.vhdx"


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def explore(reader: MemoryReader, path: Path) -> str:
    """Open, list, read at both ends and in the middle; returns what came of it."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        disk = open_vhdx(reader, path=path)
        try:
            look_around(disk)
            outcome = "opened"
        finally:
            disk.close()
    except StillframeError as error:
        outcome = type(error).__name__
    assert tracemalloc.get_traced_memory()[1] - before < BOUND
    return outcome


def look_around(disk: StillDisk) -> None:
    size = disk.geometry.size_bytes
    buffer = memoryview(bytearray(64 << 10))
    for _ in islice(disk.extents(), 2000):
        pass
    for offset in (0, MIB - 5, size // 2, size - len(buffer)):
        if 0 <= offset <= size - len(buffer):
            disk.read_into(offset, buffer)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 40))
def test_hostile_files(seed: int, child_path: Path) -> None:
    tracemalloc.start()
    try:
        reader, story = mutated(seed)
        try:
            explore(reader, child_path)
        except Exception as error:
            error.add_note(f"seed {seed}: {story}")
            raise
    finally:
        tracemalloc.stop()


def test_mutations_reach_every_stage(child_path: Path, traced: None) -> None:
    """A fuzzer that never gets past the checksums proves nothing."""
    outcomes = Counter(explore(mutated(seed)[0], child_path) for seed in range(120))
    wanted = {"opened", "HeaderError", "LogError", "RegionTableError", "MetadataError", "BlockMapError"}
    assert wanted <= set(outcomes), outcomes


@pytest.mark.soak
def test_hostile_files_for_ten_minutes(child_path: Path, traced: None) -> None:
    first = int(os.environ.get("STILLFRAME_FUZZ_SEED", str(random.SystemRandom().randrange(1 << 40))))
    print(f"STILLFRAME_FUZZ_SEED={first}")
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + SOAK_SECONDS
    seed = first
    while time.monotonic() < end:
        reader, story = mutated(seed)
        try:
            outcomes[explore(reader, child_path)] += 1
        except Exception as error:
            error.add_note(f"seed {seed}: {story}")
            raise
        seed += 1
    print(seed - first, "files:", outcomes)


REAL = ("iotest-dirtylog-10G-4M.vhdx", "iotest-dynamic-1G.vhdx", "linux-btrfs.vhdx")


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(REAL),
    damage=st.lists(st.tuples(st.integers(0, 4 * MIB), st.binary(min_size=1)), max_size=4),
)
def test_damaged_real_disks(
    real_disk: Callable[[str], Path], child_path: Path, name: str, damage: list[tuple[int, bytes]]
) -> None:
    path = real_disk(name)
    with path.open("rb") as file:
        start = file.read(5 * MIB)
    tracemalloc.start()
    try:
        explore(MemoryReader(path.stat().st_size, [(0, start), *damage]), child_path)
    finally:
        tracemalloc.stop()
