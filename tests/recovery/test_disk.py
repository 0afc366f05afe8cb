"""Giving disks back: to new files of every format, and in place, with the model and qemu-img as judges."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest

from stillframe.disk.create import DiskFormat, DiskKind
from stillframe.disk.raw import InPlaceRawTarget
from stillframe.disk.still import Extent
from stillframe.errors import UnsupportedError, UsageError
from stillframe.recovery.disk import restore_disk, restore_in_place
from stillframe.repository.collection import collect
from stillframe.repository.errors import DamagedError
from stillframe.repository.points import PointDisk
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import StorageError
from tests.disk.disks import read_file
from tests.repository.backups import (
    back_up,
    new_repository,
    opened,
    overwrite,
    pack_names,
    random_disk,
    random_extents,
)
from tests.repository.make import BLOCK_BYTES, noise
from tests.repository.storage.memory import MemoryStorage, Operation
from tests.tools import need

SIZE_BYTES = 40 * BLOCK_BYTES + 1536


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def repository(storage: MemoryStorage) -> Repository:
    return new_repository(storage)


def pieced_disk(repository: Repository, seed: int = 1) -> tuple[PointDisk, bytes]:
    """Holes, whole blocks, pieces and a short end."""
    random = Random(seed)
    data = random_disk(random, SIZE_BYTES, BLOCK_BYTES)
    data = data[: 8 * BLOCK_BYTES] + bytes(12 * BLOCK_BYTES) + data[20 * BLOCK_BYTES :]
    first = back_up(repository, data)
    extents = random_extents(random, len(data), 5, 9000)
    data = overwrite(data, extents, random)
    return back_up(repository, {"disk": data}, parent=first, changed={"disk": extents}).disks[0], data


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("raw", None),
        ("vhdx", "dynamic"),
        ("vhdx", "fixed"),
        ("vhd", "dynamic"),
        ("vhd", "fixed"),
        ("qcow2", None),
    ],
)
@pytest.mark.integration
def test_qemu_img_agrees_with_every_restored_format(
    repository: Repository, tmp_path: Path, format: DiskFormat, kind: DiskKind | None
) -> None:
    qemu_img = need("qemu-img")
    disk, data = pieced_disk(repository)
    restored = tmp_path / f"restored.{format}"
    report = restore_disk(opened(repository), disk, restored, format=format, kind=kind)
    assert report.written_bytes + report.zero_bytes == report.size_bytes == len(data)
    raw = tmp_path / "converted"
    driver = {"vhd": "vpc"}.get(format, format)
    subprocess.run([qemu_img, "convert", "-f", driver, "-O", "raw", restored, raw], check=True)
    converted = raw.read_bytes()
    assert converted[: len(data)] == data
    assert not any(converted[len(data) :])
    assert format == "vhd" or len(converted) == len(data)  # qemu-img rounds a VHD to its geometry


def test_a_raw_file_is_equal_and_keeps_its_holes(repository: Repository, tmp_path: Path) -> None:
    disk, data = pieced_disk(repository)
    path = tmp_path / "disk.raw"
    restore_disk(opened(repository), disk, path, format="raw")
    assert path.read_bytes() == data
    assert path.stat().st_blocks * 512 <= len(data) - 10 * BLOCK_BYTES


@pytest.mark.parametrize("format", ["vhdx", "vhd", "qcow2"])
def test_our_own_readers_agree(repository: Repository, tmp_path: Path, format: DiskFormat) -> None:
    disk, data = pieced_disk(repository)
    path = tmp_path / f"disk.{format}"
    restore_disk(opened(repository), disk, path, format=format)
    assert read_file(path)[: len(data)] == data


def test_nothing_is_overwritten(repository: Repository, tmp_path: Path) -> None:
    disk, _ = pieced_disk(repository)
    path = tmp_path / "disk.raw"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError):
        restore_disk(repository, disk, path, format="raw")
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("damage", ["lost", "flipped", "cut off"])
@pytest.mark.parametrize("format", ["raw", "vhdx"])
def test_a_damaged_block_leaves_no_file_and_says_what_is_wrong(
    storage: MemoryStorage, repository: Repository, tmp_path: Path, damage: str, format: DiskFormat
) -> None:
    disk, _ = pieced_disk(repository)
    name = pack_names(storage.objects, "data/")[0]
    data = storage.objects[name]
    if damage == "lost":
        del storage.objects[name]
    else:
        storage.objects[name] = data[:300] + (b"" if damage == "cut off" else b"!" + data[301:])
    with pytest.raises((DamagedError, StorageError), match=name):
        restore_disk(opened(repository), disk, tmp_path / "disk", format=format)
    assert list(tmp_path.glob("disk*")) == []


def test_a_collection_moves_the_blobs_in_the_middle_of_a_restore(
    storage: MemoryStorage, repository: Repository, tmp_path: Path
) -> None:
    disk, data = pieced_disk(repository)
    dead = [back_up(repository, noise(9 * BLOCK_BYTES, n), machine=f"dead{n}") for n in range(3)]
    for number in range(6):
        back_up(repository, noise(600, number), machine=f"small{number}")
    reader = opened(repository)
    _ = reader.index
    before = set(pack_names(storage.objects))
    done: list[int] = []

    def plan(operation: Operation) -> None:
        if operation.kind == "get_range" and operation.name.startswith("data/") and len(done) < 3:
            done.append(1)
            if len(done) == 3:
                opened(repository).forget([point.point_id for point in dead], "test")
                collect(opened(repository))

    storage.plan = plan
    restore_disk(reader, disk, tmp_path / "disk.raw", format="raw")
    assert len(done) == 3
    assert before - set(pack_names(storage.objects))
    assert (tmp_path / "disk.raw").read_bytes() == data


class _Writes:
    """What a restore in place wrote and zeroed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int = -1) -> None:
        self.written: list[Extent] = []
        self.zeroed: list[Extent] = []
        self.fail_at = fail_at
        write, zero = InPlaceRawTarget.write, InPlaceRawTarget.zero

        def counted_write(target: InPlaceRawTarget, offset_bytes: int, data: memoryview | bytes) -> None:
            if len(self.written) == self.fail_at:
                raise KeyboardInterrupt
            self.written.append(Extent(offset_bytes, len(data)))
            write(target, offset_bytes, data)

        def counted_zero(target: InPlaceRawTarget, extent: Extent) -> None:
            self.zeroed.append(extent)
            zero(target, extent)

        monkeypatch.setattr(InPlaceRawTarget, "write", counted_write)
        monkeypatch.setattr(InPlaceRawTarget, "zero", counted_zero)


def test_in_place_only_what_differs_is_fetched_and_written(
    storage: MemoryStorage, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(30 * BLOCK_BYTES + 700)
    data = (
        data[: 5 * BLOCK_BYTES] + bytes(BLOCK_BYTES) + data[6 * BLOCK_BYTES : 30 * BLOCK_BYTES] + data[-512:]
    )
    disk = back_up(repository, data).disks[0]
    path = tmp_path / "disk.raw"
    changed = bytearray(data)
    for place in (0, 5 * BLOCK_BYTES + 7, 17 * BLOCK_BYTES, len(data) - 1):
        changed[place] ^= 0xFF
    path.write_bytes(changed)
    writes = _Writes(monkeypatch)
    fresh = opened(repository)
    _ = fresh.index
    before = len(storage.operations)
    report = restore_in_place(fresh, disk, path)
    assert path.read_bytes() == data
    assert [extent.offset_bytes // BLOCK_BYTES for extent in writes.written] == [0, 17, 30]
    assert [extent.offset_bytes // BLOCK_BYTES for extent in writes.zeroed] == [5]
    assert report.written_bytes == 2 * BLOCK_BYTES + 512
    assert report.zero_bytes == BLOCK_BYTES
    assert report.equal_bytes == len(data) - 3 * BLOCK_BYTES - 512
    fetched = [op for op in storage.operations[before:] if op.name.startswith("data/")]
    assert len(fetched) <= 2 * 3  # each of the three: the pack's beginning, and the blob


def test_in_place_what_is_right_already_is_left_alone(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, data = pieced_disk(repository)
    path = tmp_path / "disk.raw"
    path.write_bytes(data)
    writes = _Writes(monkeypatch)
    report = restore_in_place(opened(repository), disk, path)
    assert (writes.written, writes.zeroed) == ([], [])
    assert report.equal_bytes == len(data)


@pytest.mark.parametrize("seed", range(6))
def test_in_place_over_anything(repository: Repository, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    disk, data = pieced_disk(repository, seed)
    path = tmp_path / "disk.raw"
    path.write_bytes(overwrite(data, random_extents(random, len(data), 8, 2 * BLOCK_BYTES), random, 0.5))
    restore_in_place(opened(repository), disk, path)
    assert path.read_bytes() == data


def test_interrupted_in_place_and_done_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, data = pieced_disk(repository)
    path = tmp_path / "disk.raw"
    path.write_bytes(noise(len(data), "other"))
    with monkeypatch.context() as patch:
        _Writes(patch, fail_at=7)
        with pytest.raises(KeyboardInterrupt):
            restore_in_place(opened(repository), disk, path)
    assert path.read_bytes() != data
    report = restore_in_place(opened(repository), disk, path)
    assert path.read_bytes() == data
    assert report.equal_bytes >= 7 * BLOCK_BYTES


def test_in_place_with_a_damaged_block_says_so_and_can_be_done_again(
    storage: MemoryStorage, repository: Repository, tmp_path: Path
) -> None:
    disk, data = pieced_disk(repository)
    path = tmp_path / "disk.raw"
    path.write_bytes(noise(len(data), "other"))
    name = pack_names(storage.objects, "data/")[0]
    lost = storage.objects.pop(name)
    with pytest.raises(DamagedError, match=name):
        restore_in_place(opened(repository), disk, path)
    storage.objects[name] = lost
    restore_in_place(opened(repository), disk, path)
    assert path.read_bytes() == data


def test_in_place_needs_an_existing_raw_file_of_the_same_size(repository: Repository, tmp_path: Path) -> None:
    disk, _ = pieced_disk(repository)
    with pytest.raises(UsageError):
        restore_in_place(repository, disk, tmp_path / "missing.raw")
    other = tmp_path / "small.raw"
    other.write_bytes(b"x" * 512)
    with pytest.raises(UsageError, match="512 bytes"):
        restore_in_place(repository, disk, other)
    assert other.read_bytes() == b"x" * 512
    image = tmp_path / "disk.vhdx"
    restore_disk(repository, disk, image, format="vhdx")
    before = image.read_bytes()
    with pytest.raises(UnsupportedError, match="raw"):
        restore_in_place(repository, disk, image)
    assert image.read_bytes() == before
