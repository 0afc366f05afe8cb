"""A disk of a recovery point reads as the bytes that went in, from any place, in any order."""

from __future__ import annotations

import threading
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.disk.still import CannotTellChangesError, Extent, ExtentKind, StillDisk
from stillframe.repository import still
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.still import StoredDisk, changed_extents
from tests.disk.disks import check_extents
from tests.repository.backups import (
    back_up,
    new_repository,
    overwrite,
    random_disk,
    random_extents,
)
from tests.repository.make import BLOCK_BYTES, noise


def pieced(random: Random, blocks: int, fan_out: int = 3) -> tuple[Repository, RecoveryPoint, bytes]:
    """A disk with holes, whole blocks and pieces, and a last short block."""
    repository = new_repository(fan_out=fan_out)
    data = random_disk(random, blocks * BLOCK_BYTES + 1536, BLOCK_BYTES)
    point = back_up(repository, data)
    for _ in range(2):
        extents = random_extents(random, len(data), 4, 9000)
        data = overwrite(data, extents, random)
        point = back_up(repository, {"disk": data}, parent=point, changed={"disk": extents})
    return repository, point, data


@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 32), blocks=st.integers(0, 9))
def test_any_read_gives_what_went_in(seed: int, blocks: int) -> None:
    random = Random(seed)
    repository, point, data = pieced(random, blocks)
    disk = StoredDisk(repository, point.disks[0])
    for _ in range(40):
        start = random.randrange(len(data))
        length = min(random.choice((1, 512, 5000, 3 * BLOCK_BYTES)), len(data) - start)
        buffer = bytearray(b"?" * length)
        disk.read_into(start, memoryview(buffer))
        assert bytes(buffer) == data[start : start + length]


@settings(max_examples=15)
@given(seed=st.integers(0, 1 << 32), blocks=st.integers(0, 9))
def test_extents_cover_the_disk_and_holes_are_zero(seed: int, blocks: int) -> None:
    random = Random(seed)
    repository, point, data = pieced(random, blocks)
    extents = check_extents(StoredDisk(repository, point.disks[0]))
    for extent in extents:
        if extent.kind is not ExtentKind.DATA:
            assert not any(data[extent.offset_bytes : extent.end_bytes])


def test_a_zero_disk_is_one_hole() -> None:
    repository = new_repository()
    point = back_up(repository, bytes(10 * BLOCK_BYTES + 512))
    disk = StoredDisk(repository, point.disks[0])
    assert list(disk.extents()) == [Extent(0, 10 * BLOCK_BYTES + 512, ExtentKind.ZERO)]


def test_it_is_a_still_disk_with_its_names() -> None:
    repository = new_repository()
    point = back_up(repository, noise(1000))
    disk = StoredDisk(repository, point.disks[0])
    assert isinstance(disk, StillDisk)
    assert (disk.disk_id, disk.geometry, disk.token) == ("disk", point.disks[0].geometry, None)
    with pytest.raises(CannotTellChangesError):
        list(disk.changed("token"))
    disk.close()


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (996, 5), (1001, 0), (0, 1001)])
def test_reads_that_leave_the_disk_are_refused(offset: int, length: int) -> None:
    repository = new_repository()
    disk = StoredDisk(repository, back_up(repository, noise(1000)).disks[0])
    with pytest.raises(ValueError, match="leave"):
        disk.read_into(offset, memoryview(bytearray(length)))


def test_blocks_read_a_moment_ago_are_not_fetched_again_and_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(still, "_CACHED_BLOCKS", 3)
    repository = new_repository()
    data = noise(8 * BLOCK_BYTES)
    disk = StoredDisk(repository, back_up(repository, data).disks[0])
    storage = repository.storage
    buffer = bytearray(512)
    disk.read_into(0, memoryview(buffer))
    before = len(storage.operations)  # type: ignore[attr-defined]
    for offset in range(512, BLOCK_BYTES, 512):
        disk.read_into(offset, memoryview(buffer))
    assert len(storage.operations) == before  # type: ignore[attr-defined]
    whole = bytearray(len(data))
    disk.read_into(0, memoryview(whole))
    assert whole == data
    assert len(disk._cache) <= 3


def test_several_threads_read_one_disk() -> None:
    repository, point, data = pieced(Random(1), 9)
    disk = StoredDisk(repository, point.disks[0])
    wrong: list[int] = []

    def read(seed: int) -> None:
        random = Random(seed)
        for _ in range(50):
            start = random.randrange(len(data) - 5000)
            buffer = bytearray(5000)
            disk.read_into(start, memoryview(buffer))
            if bytes(buffer) != data[start : start + 5000]:
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1 << 32),
    fan_out=st.sampled_from((2, 3, 64)),
    old_blocks=st.integers(1, 20),
    new_blocks=st.integers(1, 20),
)
def test_changed_extents_cover_every_difference(
    seed: int, fan_out: int, old_blocks: int, new_blocks: int
) -> None:
    """And where sizes are equal and blocks were scanned, they name nothing that is equal."""
    random = Random(seed)
    repository = new_repository(fan_out=fan_out)
    old = random_disk(random, old_blocks * BLOCK_BYTES - random.choice((0, 700)), BLOCK_BYTES)
    size = new_blocks * BLOCK_BYTES - random.choice((0, 700))
    grown = old[:size] + bytes(max(0, size - len(old)))
    new = overwrite(grown, random_extents(random, size, 3, 2 * BLOCK_BYTES), random)
    first, second = back_up(repository, old), back_up(repository, new)
    extents = list(changed_extents(repository, first.disks[0], second.disks[0]))
    position = 0
    rebuilt = bytearray(grown)
    for extent in extents:
        assert extent.offset_bytes >= position
        assert extent.length_bytes > 0
        position = extent.end_bytes
        rebuilt[extent.offset_bytes : extent.end_bytes] = new[extent.offset_bytes : extent.end_bytes]
    assert position <= len(new)
    assert rebuilt == new
    if len(old) == len(new):
        named = {block for extent in extents for block in _blocks(extent)}
        assert named == {n for n in range(new_blocks) if _block(old, n) != _block(new, n)}


def _blocks(extent: Extent) -> range:
    return range(extent.offset_bytes // BLOCK_BYTES, -(-extent.end_bytes // BLOCK_BYTES))


def _block(data: bytes, number: int) -> bytes:
    return data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]


def test_equal_points_differ_nowhere_and_read_no_node() -> None:
    repository = new_repository(fan_out=2)
    point = back_up(repository, noise(40 * BLOCK_BYTES))
    renamed = replace(point.disks[0], name="other")
    before = len(repository.storage.operations)  # type: ignore[attr-defined]
    assert list(changed_extents(repository, point.disks[0], renamed)) == []
    assert len(repository.storage.operations) == before  # type: ignore[attr-defined]
