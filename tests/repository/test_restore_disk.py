"""The independent reader restores what the package stored: the format document is complete."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stillframe.disk.still import Extent, Geometry
from stillframe.repository.ingest import IngestRun
from stillframe.repository.nodes import PiecedBlock
from stillframe.repository.points import PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository, create_repository
from stillframe.repository.storage.open import open_storage
from stillframe.repository.tree import walk_blocks
from tests.disk.disks import MemoryDisk
from tests.repository.make import BLOCK_BYTES, make_point, noise

READER = Path(__file__).parents[2] / "tools" / "restore_disk.py"
PASSPHRASE = "Straße, 17 and a half"


@dataclass(frozen=True)
class Moments:
    """A repository in a folder, and what its points must give back."""

    folder: Path
    recovery_key: str
    contents: dict[str, bytes]
    points: dict[str, RecoveryPoint]
    repository: Repository


def disk_bytes() -> bytearray:
    """22 blocks, the last one short: noise, text, zeros, a repeated block, holes of a subtree's size."""
    data = bytearray(21 * BLOCK_BYTES + 12 * 1024)
    data[: 2 * BLOCK_BYTES] = noise(2 * BLOCK_BYTES)
    data[2 * BLOCK_BYTES : 3 * BLOCK_BYTES] = (b"text that compresses well. " * BLOCK_BYTES)[:BLOCK_BYTES]
    data[17 * BLOCK_BYTES : 18 * BLOCK_BYTES] = data[:BLOCK_BYTES]
    data[21 * BLOCK_BYTES :] = noise(12 * 1024, "end")
    return data


def changed(data: bytes, changes: dict[int, bytes], size_bytes: int) -> bytes:
    after = bytearray(data.ljust(size_bytes, b"\0"))
    for offset, new in changes.items():
        after[offset : offset + len(new)] = new
    return bytes(after)


def make_moments(folder: Path) -> Moments:
    """A full, an increment that lays pieces over blocks, and one in which the disk has grown."""
    repository, recovery_key = create_repository(
        open_storage(str(folder), create=True),
        PASSPHRASE,
        block_bytes=BLOCK_BYTES,
        fan_out=4,
        pack_bytes=1 << 19,
    )
    first = bytes(disk_bytes())
    small = {5000: noise(8192, "a"), 3 * BLOCK_BYTES + 4096: noise(100, "b"), 9000: bytes(3000)}
    second = changed(first, small, len(first))
    grown = {
        BLOCK_BYTES + 100: noise(5000, "c"),
        5000: noise(4096, "d"),
        90 * BLOCK_BYTES: noise(BLOCK_BYTES, "e"),
    }
    third = changed(second, grown, 91 * BLOCK_BYTES)
    points = {"one": commit(repository, "one", first)}
    points["two"] = commit(repository, "two", second, points["one"], small)
    points["three"] = commit(repository, "three", third, points["two"], grown)
    contents = {"one": first, "two": second, "three": third}
    return Moments(folder, recovery_key, contents, points, repository)


def commit(
    repository: Repository,
    name: str,
    data: bytes,
    base: RecoveryPoint | None = None,
    changes: dict[int, bytes] | None = None,
) -> RecoveryPoint:
    disk = MemoryDisk(data)
    with IngestRun(repository, "vm") as run:
        if base is None:
            root = run.scan(disk)
        else:
            extents = [Extent(offset, len(new)) for offset, new in sorted((changes or {}).items())]
            root = run.update(disk, merged(extents), base.disks[0])
        point_disk = PointDisk("disk.vhdx", "memory", Geometry(len(data)), BLOCK_BYTES, root)
        return run.commit(make_point(name, [point_disk]), [base.point_id] if base else [])


def merged(extents: list[Extent]) -> list[Extent]:
    """Changed extents have to be disjoint."""
    result: list[Extent] = []
    for extent in extents:
        if result and extent.offset_bytes <= result[-1].end_bytes:
            before = result.pop()
            end = max(before.end_bytes, extent.end_bytes)
            extent = Extent(before.offset_bytes, end - before.offset_bytes)
        result.append(extent)
    return result


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> Moments:
    return make_moments(tmp_path_factory.mktemp("restore") / "repository")


def run_reader(secret: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STILLFRAME_PASSPHRASE": secret}
    command = [sys.executable, str(READER), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_reader_imports_nothing_of_the_package() -> None:
    tree = ast.parse(READER.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside == {"blake3", "cryptography", "compression", "backports"} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_every_moment_comes_back_byte_for_byte(moments: Moments, name: str, tmp_path: Path) -> None:
    out = tmp_path / "disk.raw"
    point = moments.points[name]
    done = run_reader(PASSPHRASE, moments.folder, point.point_id, "disk.vhdx", out)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == moments.contents[name]
    assert out.stat().st_blocks * 512 < out.stat().st_size


def test_there_were_pieces_to_lay_over_blocks(moments: Moments) -> None:
    disk = moments.points["three"].disks[0]
    entries = dict(walk_blocks(disk.root, disk.block_count, 4, moments.repository.read_node))
    pieced = {block: entry for block, entry in entries.items() if isinstance(entry, PiecedBlock)}
    assert set(pieced) == {0, 1, 3}
    assert pieced[3].base is None


def test_the_printed_recovery_key_opens_as_well(moments: Moments, tmp_path: Path) -> None:
    out = tmp_path / "disk.raw"
    point = moments.points["one"]
    done = run_reader(moments.recovery_key.lower(), moments.folder, point.point_id, "disk.vhdx", out)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == moments.contents["one"]


def test_it_lists_points_and_refuses_a_wrong_passphrase(moments: Moments) -> None:
    listed = run_reader(PASSPHRASE, moments.folder)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        point.point_id for point in moments.points.values()
    ]
    refused = run_reader(PASSPHRASE + "!", moments.folder)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "wrong" in refused.stderr


def test_a_forgotten_point_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    moments = make_moments(tmp_path / "repository")
    forgotten, kept = moments.points["one"], moments.points["two"]
    moments.repository.forget([forgotten.point_id], "test")
    out = tmp_path / "out"
    refused = run_reader(PASSPHRASE, moments.folder, forgotten.point_id, "disk.vhdx", out)
    assert (refused.returncode, out.exists()) == (1, False)
    assert run_reader(PASSPHRASE, moments.folder, kept.point_id, "disk.vhdx", out).returncode == 0
    assert out.read_bytes() == moments.contents["two"]


def test_a_changed_byte_is_never_restored(tmp_path: Path) -> None:
    moments = make_moments(tmp_path / "repository")
    for pack in (moments.folder / "data").rglob("*/*"):
        pack.chmod(0o600)
        with pack.open("r+b") as file:
            file.seek(150)  # in the first blob
            byte = file.read(1)[0]
            file.seek(150)
            file.write(bytes((byte ^ 1,)))
    point = moments.points["three"]
    done = run_reader(PASSPHRASE, moments.folder, point.point_id, "disk.vhdx", tmp_path / "out")
    assert done.returncode == 1
    assert "InvalidTag" in done.stderr
