"""Synthetic repositories read like real ones, where they are read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from benchmarks.synthetic import add_index_rows, fill_disk, repeat_point

from stillframe.disk.still import Geometry
from stillframe.repository.errors import DamagedError
from stillframe.repository.points import Consistency, PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository, create_repository
from stillframe.repository.storage.open import open_storage
from stillframe.repository.tree import walk_blocks

BLOCKS = 10_001
TOUCHED = [0, 5000, 5001, BLOCKS - 1]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    storage = open_storage(str(tmp_path / "repository"), create=True)
    return create_repository(storage, "pass", fan_out=16)[0]


@pytest.fixture
def point(repository: Repository) -> RecoveryPoint:
    block_bytes = repository.config.block_bytes
    disk = PointDisk("disk.raw", "disk", Geometry(BLOCKS * block_bytes), block_bytes, None)
    time = datetime(2026, 1, 1, tzinfo=UTC)
    empty = RecoveryPoint(
        "0" * 16, "bench", time, Consistency.CRASH, "", "full", "first backup", None, (disk,)
    )
    return repository.commit_point(repository.draft(), empty)


def test_a_full_disk_is_real_where_it_is_touched(repository: Repository, point: RecoveryPoint) -> None:
    fill_disk(repository, point, TOUCHED, 3, np.random.default_rng(1))
    repository.refresh()
    root = repository.points()[-1].disks[0].root
    for block in TOUCHED:
        leaf = list(walk_blocks(root, BLOCKS, 16, repository.read_node, block - block % 16, block + 1))
        assert [number for number, _ in leaf] == list(range(block - block % 16, block + 1))
        assert len({entry for _, entry in leaf}) == len(leaf)
    with pytest.raises(DamagedError):
        list(walk_blocks(root, BLOCKS, 16, repository.read_node, 7000, 7001))
    assert len([name for name in repository.storage.list("meta/") if name.startswith("meta/")]) == 3


def test_index_rows_are_found(repository: Repository, point: RecoveryPoint) -> None:
    add_index_rows(repository, 1000, np.random.default_rng(1))
    repository.refresh()
    assert len(repository.index) == 1000
    [segment] = repository.index.segments.values()
    assert None not in repository.index.find([segment.ids[row].tobytes() for row in (0, 500, 999)])


def test_a_point_is_repeated(repository: Repository, point: RecoveryPoint) -> None:
    repeat_point(repository, point, 3)
    points = repository.points()
    assert len({each.point_id for each in points}) == 4
    assert [(each.time - point.time).total_seconds() for each in points] == [0, 60, 120, 180]
