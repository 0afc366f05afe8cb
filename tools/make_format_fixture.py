#!/usr/bin/env python3
"""Make tests/data/repository-v1: a small repository of this format, to stay restorable for ever.

It is made once, when a format is released, and never again: tests/repository/test_format_fixture.py restores
it with every later version. Run: tools/make_format_fixture.py FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from blake3 import blake3

from stillframe.disk.open import open_disk
from stillframe.disk.still import Extent, Geometry
from stillframe.repository.ingest import IngestRun
from stillframe.repository.operations import drive
from stillframe.repository.points import Consistency, PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository, create_repository
from stillframe.repository.storage.open import open_storage

PASSPHRASE = "still, but only for an instant"
BLOCK_BYTES = 64 << 10
PIECE_AT = 2 * BLOCK_BYTES + 8192

Changes = dict[int, bytes]


def first_contents() -> bytes:
    """Text, zeros, the same text again, and a short block of noise; two levels of tree at fan-out 4."""
    text = (b"One disk, standing still for an instant. " * BLOCK_BYTES)[:BLOCK_BYTES]
    other = (b"Another block of it. " * BLOCK_BYTES)[:BLOCK_BYTES]
    return text + bytes(BLOCK_BYTES) + other + text + bytes(2 * BLOCK_BYTES) + blake3(b"noise").digest(1536)


def second_changes() -> Changes:
    """Small changes become pieces, over a block, over zeros, and of zeros; the last one is a whole block."""
    return {
        PIECE_AT: b"a piece".ljust(4096, b"!"),
        PIECE_AT + (40 << 10): bytes(4096),
        4 * BLOCK_BYTES + 4096: b"over zeros".ljust(512, b"?"),
        9 * BLOCK_BYTES: b"grown ".ljust(BLOCK_BYTES, b"+"),
    }


def changed(contents: bytes, changes: Changes) -> bytes:
    after = bytearray(contents.ljust(max(at + len(new) for at, new in changes.items()), b"\0"))
    for at, new in changes.items():
        after[at : at + len(new)] = new
    return bytes(after)


def commit(
    repository: Repository, image: Path, point_id: str, base: RecoveryPoint | None, changes: Changes
) -> RecoveryPoint:
    disk = open_disk(image)
    with IngestRun(repository, "fixture") as run:
        if base is None:
            root = run.scan(disk)
        else:
            extents = [Extent(at, len(new)) for at, new in sorted(changes.items())]
            root = run.update(disk, extents, base.disks[0])
        note = run.document(f"A document of point {point_id}.".encode())
        point = RecoveryPoint(
            point_id,
            "fixture",
            datetime.now(UTC),
            Consistency.CRASH,
            "an image at rest",
            "incremental" if base else "full",
            "changes known" if base else "first",
            base.point_id if base else None,
            (PointDisk("disk.raw", "fixture", Geometry(image.stat().st_size), BLOCK_BYTES, root),),
            documents={"note": note},
        )
        committed = run.commit(point, [base.point_id] if base else [])
    disk.close()
    return committed


def fill(repository: Repository, image: Path) -> dict[str, str]:
    """Two points that stay, one that is forgotten, a token and a checkpoint; SHA-256 of the disk by point."""
    contents = first_contents()
    image.write_bytes(contents)
    one = commit(repository, image, "0000000000000001", None, {})
    hashes = {one.point_id: hashlib.sha256(contents).hexdigest()}
    contents = changed(contents, second_changes())
    image.write_bytes(contents)
    two = commit(repository, image, "0000000000000002", one, second_changes())
    hashes[two.point_id] = hashlib.sha256(contents).hexdigest()
    three = commit(repository, image, "0000000000000003", two, {0: contents[:512]})
    repository.forget([three.point_id], "fixture")
    repository.set_token("fixture", "fixture", "token 7", two.point_id)
    drive(repository.knowledge.log.write_checkpoint(), repository.storage)
    return hashes


def main(target: Path) -> None:
    target.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "repository"
        repository, recovery_key = create_repository(
            open_storage(str(folder), create=True), PASSPHRASE, block_bytes=BLOCK_BYTES, fan_out=4
        )
        hashes = fill(repository, Path(scratch) / "disk.raw")
        expected = {"passphrase": PASSPHRASE, "recovery_key": recovery_key, "sha256": hashes}
        (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
        with tarfile.open(target / "repository.tar.gz", "w:gz") as archive:
            archive.add(folder, "repository", filter=anonymous)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]))
