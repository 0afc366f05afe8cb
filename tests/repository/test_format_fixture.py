"""A repository of every released format stays restorable: tests/data/repository-v1 is never made again.

tools/make_format_fixture.py says what is in it. Its passphrase, "still, but only for an instant", and its
recovery key are in expected.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stillframe.repository.blobs import BlobType
from stillframe.repository.nodes import PiecedBlock
from stillframe.repository.repository import Repository, open_repository
from stillframe.repository.still import StoredDisk
from stillframe.repository.storage.open import open_storage
from stillframe.repository.tree import walk_blocks
from stillframe.repository.unlocking import unlock_slots
from tests.disk.disks import contents

FIXTURE = Path(__file__).parents[1] / "data" / "repository-v1"
READER = Path(__file__).parents[2] / "tools" / "restore_disk.py"
EXPECTED: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fixture")
    with tarfile.open(FIXTURE / "repository.tar.gz") as archive:
        archive.extractall(place, filter="data")
    return place / "repository"


def opened(folder: Path, secret: str) -> Repository:
    storage = open_storage(str(folder))
    return open_repository(storage, partial(unlock_slots, storage, secret=secret))


@pytest.mark.parametrize("secret", ["passphrase", "recovery_key"])
def test_every_point_is_restored_with_either_secret(folder: Path, secret: str) -> None:
    repository = opened(folder, EXPECTED[secret])
    found = {
        point.point_id: hashlib.sha256(contents(StoredDisk(repository, point.disks[0]))).hexdigest()
        for point in repository.points()
    }
    assert found == EXPECTED["sha256"]


@pytest.mark.parametrize("point", sorted(EXPECTED["sha256"]))
def test_the_independent_reader_restores_every_point(folder: Path, point: str, tmp_path: Path) -> None:
    out = tmp_path / "disk.raw"
    subprocess.run(
        [sys.executable, READER, folder, point, "disk.raw", out],
        env={**os.environ, "STILLFRAME_PASSPHRASE": EXPECTED["passphrase"]},
        check=True,
    )
    assert hashlib.sha256(out.read_bytes()).hexdigest() == EXPECTED["sha256"][point]


def test_it_holds_every_kind_of_entry_of_a_tree(folder: Path) -> None:
    repository = opened(folder, EXPECTED["passphrase"])
    disk = repository.points()[1].disks[0]
    entries = dict(walk_blocks(disk.root, disk.block_count, repository.config.fan_out, repository.read_node))
    pieced = [entry for entry in entries.values() if isinstance(entry, PiecedBlock)]
    assert any(isinstance(entry, bytes) for entry in entries.values())
    assert 1 not in entries
    assert {piece.is_zero for entry in pieced for piece in entry.pieces} == {True, False}
    assert {entry.base is None for entry in pieced} == {True, False}


def test_documents_tokens_and_what_was_forgotten_are_read(folder: Path) -> None:
    repository = opened(folder, EXPECTED["passphrase"])
    point = repository.points()[1]
    note = bytes(repository.read_blob(point.documents["note"], BlobType.DOCUMENT))
    assert note.decode() == f"A document of point {point.point_id}."
    assert repository.state.tokens == {("fixture", "fixture"): ("token 7", point.point_id)}
    assert repository.state.forgotten == 1
