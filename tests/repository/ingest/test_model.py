"""Whatever is backed up, however it changed: every point reads back as the disk was then."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.disk.still import Extent
from stillframe.errors import UsageError
from stillframe.repository.ingest import Statistics
from stillframe.repository.nodes import MAX_PIECES, PiecedBlock
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.still import StoredDisk
from tests.repository.backups import (
    back_up,
    contents_of,
    new_repository,
    opened,
    overwrite,
    random_disk,
    random_extents,
    restored,
)
from tests.repository.make import BLOCK_BYTES, noise

Disks = dict[str, bytes]


@dataclass
class _Life:
    """A machine's points beside what its disks held at each."""

    repository: Repository
    random: Random
    disks: Disks
    last: RecoveryPoint | None
    history: list[tuple[RecoveryPoint, Disks]]

    def back_up(self, changed: dict[str, list[Extent]] | None = None) -> Statistics:
        statistics = Statistics()
        self.last = back_up(
            self.repository, self.disks, parent=self.last, changed=changed, statistics=statistics
        )
        self.history.append((self.last, dict(self.disks)))
        return statistics

    def change(self) -> dict[str, list[Extent]]:
        extents = {}
        for name, data in self.disks.items():
            count = self.random.choice((0, 1, 3, 40))
            longest = self.random.choice((1, 5000, 3 * self.repository.config.block_bytes))
            extents[name] = random_extents(self.random, len(data), count, longest)
            self.disks[name] = overwrite(data, extents[name], self.random)
        return extents

    def resize(self) -> None:
        """Grow (with zeros, then with data) or shrink each disk."""
        for name, data in self.disks.items():
            size = self.random.randrange(512, 2 * len(data), 512)
            self.disks[name] = data[:size] + bytes(max(0, size - len(data)))
        self.change()


def _new_life(seed: int, fan_out: int, block_bytes: int, disks: int) -> _Life:
    random = Random(seed)
    sizes = [random.randrange(512, 12 * block_bytes, 512) for _ in range(disks)]
    contents = {f"disk{n}": random_disk(random, size, block_bytes) for n, size in enumerate(sizes)}
    repository = new_repository(fan_out=fan_out, block_bytes=block_bytes, pack_bytes=4 * block_bytes)
    return _Life(repository, random, contents, None, [])


def _check_sums(statistics: Statistics) -> None:
    fates = statistics.zero_bytes + statistics.unchanged_bytes + statistics.found_bytes + statistics.new_bytes
    assert statistics.read_bytes == fates
    assert statistics.skipped_bytes == statistics.size_bytes - statistics.read_bytes


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    fan_out=st.sampled_from((2, 3, 4, 7, 64)),
    disks=st.integers(1, 3),
    steps=st.lists(st.sampled_from(("extents", "scan", "resize", "nothing")), min_size=1, max_size=6),
)
def test_every_point_reads_back_as_the_disks_were(
    seed: int, fan_out: int, disks: int, steps: list[str]
) -> None:
    life = _new_life(seed, fan_out, BLOCK_BYTES, disks)
    _check_sums(life.back_up())
    for step in steps:
        if step == "resize":
            life.resize()
            statistics = life.back_up()
        elif step == "nothing":
            life.back_up()  # blocks in pieces become whole ones
            statistics = life.back_up()
            assert statistics.new_bytes == statistics.stored_bytes == statistics.metadata_bytes == 0
        else:
            changed = life.change()
            statistics = life.back_up(changed if step == "extents" else None)
        _check_sums(statistics)
    fresh = opened(life.repository)
    for point, disks_then in life.history:
        assert contents_of(fresh, point) == disks_then


def test_with_blocks_of_a_mebibyte() -> None:
    life = _new_life(7, 64, 1 << 20, 2)
    life.back_up()
    for _ in range(3):
        life.back_up(life.change())
    fresh = opened(life.repository)
    for point, disks_then in life.history:
        assert contents_of(fresh, point) == disks_then


@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 32), fan_out=st.sampled_from((2, 4, 64)))
def test_equal_contents_scanned_give_equal_roots(seed: int, fan_out: int) -> None:
    random = Random(seed)
    data = random_disk(random, random.randrange(512, 9 * BLOCK_BYTES, 512), BLOCK_BYTES)
    repository = new_repository(fan_out=fan_out)
    first = back_up(repository, data)
    other = overwrite(data, random_extents(random, len(data), 5, 9000), random)
    between = back_up(repository, other, parent=first)
    statistics = Statistics()
    again = back_up(repository, data, parent=between, statistics=statistics)
    alone = back_up(new_repository(fan_out=fan_out), data)
    assert first.disks[0].root == again.disks[0].root == alone.disks[0].root
    assert statistics.new_bytes == 0
    assert statistics.metadata_bytes == 0


def test_grown_by_extents_without_a_scan() -> None:
    """The pipeline can do it, though a strategy may choose to scan."""
    random = Random(5)
    for grown_bytes in (512, BLOCK_BYTES, 9 * BLOCK_BYTES, 70 * BLOCK_BYTES):
        repository = new_repository(fan_out=2)
        data = random_disk(random, 3 * BLOCK_BYTES + 1536, BLOCK_BYTES)
        first = back_up(repository, data)
        larger = data + bytes(grown_bytes - 512) + noise(512)
        changed = {"disk": [Extent(len(larger) - 512, 512)]}
        second = back_up(repository, {"disk": larger}, parent=first, changed=changed)
        assert contents_of(repository, first) == {"disk": data}
        assert contents_of(repository, second) == {"disk": larger}


def test_a_small_change_costs_a_small_piece() -> None:
    repository = new_repository(block_bytes=1 << 20)
    data = noise(4 << 20)
    first = back_up(repository, data)
    changed = data[:1_500_000] + b"x" * 100 + data[1_500_100:]
    statistics = Statistics()
    extents = {"disk": [Extent(1_500_000, 100)]}
    second = back_up(repository, {"disk": changed}, parent=first, changed=extents, statistics=statistics)
    assert statistics.read_bytes == statistics.new_bytes == 4096
    assert statistics.skipped_bytes == len(data) - 4096
    assert contents_of(repository, second) == {"disk": changed}


def test_pieces_over_pieces_until_the_block_is_written_whole() -> None:
    repository = new_repository(block_bytes=1 << 20)
    data = noise(1 << 20)
    point = back_up(repository, data)
    counts = []
    for number in range(40):
        offset = number * 7 % 50 * 20_000 + number  # far apart: neighbours would be joined
        data = data[:offset] + noise(300, number) + data[offset + 300 :]
        extents = {"disk": [Extent(offset, 300)]}
        point = back_up(repository, {"disk": data}, parent=point, changed=extents)
        assert contents_of(repository, point) == {"disk": data}
        entry = StoredDisk(repository, point.disks[0]).entry(0)
        counts.append(len(entry.pieces) if isinstance(entry, PiecedBlock) else 0)
    assert max(counts) == MAX_PIECES
    assert counts.count(0) >= 2  # more than 16, and it is one blob again


def test_a_piece_that_covers_others_takes_their_place() -> None:
    repository = new_repository(block_bytes=1 << 20)
    data = noise(1 << 20)
    point = back_up(repository, data)
    for offset, length in ((8192, 4096), (100_000, 100), (0, 200_000)):
        data = data[:offset] + noise(length, offset) + data[offset + length :]
        extents = {"disk": [Extent(offset, length)]}
        point = back_up(repository, {"disk": data}, parent=point, changed=extents)
    entry = StoredDisk(repository, point.disks[0]).entry(0)
    assert isinstance(entry, PiecedBlock)
    assert len(entry.pieces) == 1
    assert contents_of(repository, point) == {"disk": data}


def test_zeros_as_pieces_cost_no_blob_and_on_a_zero_block_nothing_at_all() -> None:
    repository = new_repository(block_bytes=1 << 20)
    data = noise(1 << 20) + bytes(1 << 20)
    first = back_up(repository, data)
    changed = bytes(4096) + data[4096:]
    statistics = Statistics()
    extents = {"disk": [Extent(0, 4096), Extent(1 << 20, 4096)]}
    second = back_up(repository, {"disk": changed}, parent=first, changed=extents, statistics=statistics)
    assert statistics.stored_bytes == 0
    assert statistics.zero_bytes == statistics.read_bytes == 8192
    stored = StoredDisk(repository, second.disks[0])
    assert isinstance(stored.entry(0), PiecedBlock)
    assert stored.entry(1) is None
    assert contents_of(repository, second) == {"disk": changed}


def test_unchanged_subtrees_are_not_stored_again() -> None:
    repository = new_repository(fan_out=2)
    data = noise(64 * BLOCK_BYTES)  # a tree of 63 nodes
    first = back_up(repository, data)
    repository.refresh()
    before = len(repository.index)
    changed = noise(BLOCK_BYTES, "new") + data[BLOCK_BYTES:]
    second = back_up(repository, {"disk": changed}, parent=first, changed={"disk": [Extent(0, BLOCK_BYTES)]})
    repository.refresh()
    assert len(repository.index) - before == 1 + 6  # the block, and one node for each height
    assert restored(repository, second.disks[0]) == changed


def test_a_subtree_that_became_zero_leaves_the_tree() -> None:
    repository = new_repository(fan_out=2)
    data = noise(8 * BLOCK_BYTES)
    first = back_up(repository, data)
    zero = {"disk": bytes(len(data))}
    second = back_up(repository, zero, parent=first, changed={"disk": [Extent(0, len(data))]})
    assert second.disks[0].root is None
    assert contents_of(repository, second) == zero
    scanned = back_up(repository, zero, parent=first)
    assert scanned.disks[0].root is None


@pytest.mark.parametrize(
    "extents",
    [
        [Extent(4096, 10), Extent(0, 10)],
        [Extent(0, 10), Extent(9, 10)],
        [Extent(0, 10), Extent(2 * BLOCK_BYTES, 1)],
        [Extent(10, -5)],
        [Extent(-10, 5)],
    ],
)
def test_extents_that_make_no_sense_are_refused_and_make_no_point(extents: list[Extent]) -> None:
    repository = new_repository()
    data = noise(2 * BLOCK_BYTES)
    first = back_up(repository, data)
    with pytest.raises(UsageError, match="changed extent"):
        back_up(repository, {"disk": data}, parent=first, changed={"disk": extents})
    assert opened(repository).points() == [first]


def test_documents_come_back_and_equal_ones_are_stored_once() -> None:
    from stillframe.repository.blobs import BlobType

    repository = new_repository()
    documents = {"configuration": b"{}", "writers": noise(3000), "same": b"{}"}
    point = back_up(repository, noise(10), documents=documents)
    fresh = opened(repository)
    read = {name: bytes(fresh.read_blob(i, BlobType.DOCUMENT)) for name, i in point.documents.items()}
    assert read == documents
    assert len(fresh.index) == 1 + 1 + 2
