import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stillframe.disk.raw import InPlaceRawTarget, RawDisk, RawTarget
from stillframe.disk.reader import FileReader
from stillframe.disk.staged import CannotWriteError
from stillframe.disk.still import Extent, ExtentKind, Geometry
from stillframe.errors import CorruptInputError, StillframeError, UnsupportedError, UsageError
from tests.disk.disks import MemoryReader, check_extents, contents
from tests.tools import need, need_root

MIB = 1 << 20


def open_raw(path: Path) -> RawDisk:
    return RawDisk(FileReader(path), path=path)


def sparse_file(path: Path) -> Path:
    """3 MiB, of which the second holds data."""
    with path.open("wb") as file:
        file.truncate(3 * MIB)
        file.seek(MIB)
        file.write(b"x" * MIB)
    return path


def test_holes_were_never_written(tmp_path: Path) -> None:
    disk = open_raw(sparse_file(tmp_path / "disk.raw"))
    assert check_extents(disk) == [
        Extent(0, MIB, ExtentKind.UNMAPPED),
        Extent(MIB, MIB),
        Extent(2 * MIB, MIB, ExtentKind.UNMAPPED),
    ]
    assert contents(disk) == bytes(MIB) + b"x" * MIB + bytes(MIB)
    assert disk.disk_id == str(tmp_path / "disk.raw")


@pytest.mark.parametrize("length", [1, 511, 513, 4097])
def test_a_file_that_ends_within_a_sector_is_filled_up_with_zeros(tmp_path: Path, length: int) -> None:
    path = tmp_path / "odd.raw"
    path.write_bytes(b"x" * length)
    disk = open_raw(path)
    assert contents(disk) == (b"x" * length).ljust(-(-length // 512) * 512, b"\0")
    check_extents(disk)
    assert "ends within a sector" in disk.facts.notes[0]


def test_a_source_without_a_descriptor_is_all_data() -> None:
    assert check_extents(RawDisk(MemoryReader(b"x" * 1024))) == [Extent(0, 1024)]


def test_an_empty_file_is_no_disk(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(CorruptInputError, match="is empty"):
        open_raw(tmp_path / "empty")


def test_more_than_64_tib_is_no_disk() -> None:
    class Huge(MemoryReader):
        size_bytes = (64 << 40) + 1  # type: ignore[assignment]

    with pytest.raises(UnsupportedError, match="64 TiB"):
        RawDisk(Huge(b""))


def test_a_new_target_keeps_holes(tmp_path: Path) -> None:
    path = tmp_path / "new.raw"
    target = RawTarget(path, Geometry(64 * MIB))
    target.write(10 * MIB, b"x" * 4096)
    target.zero(Extent(20 * MIB, MIB))
    assert not path.exists()
    target.finish()
    assert contents(open_raw(path)) == bytes(10 * MIB) + b"x" * 4096 + bytes(54 * MIB - 4096)
    assert path.stat().st_blocks * 512 < MIB


def test_an_existing_file_is_never_overwritten_by_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "there.raw"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        RawTarget(path, Geometry(512))
    assert path.read_bytes() == b"precious"


def test_in_place_only_what_is_written_or_zeroed_changes(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"o" * 3 * MIB)
    target = InPlaceRawTarget(path, Geometry(3 * MIB))
    target.write(100, b"new")
    target.zero(Extent(MIB - 10, MIB + 20))
    target.finish()
    expected = bytearray(b"o" * 3 * MIB)
    expected[100:103] = b"new"
    expected[MIB - 10 : 2 * MIB + 10] = bytes(MIB + 20)
    assert path.read_bytes() == expected
    assert any(extent.kind is ExtentKind.UNMAPPED for extent in open_raw(path).extents())


def test_zeros_are_written_where_no_hole_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("stillframe.disk.zeroing._punch_hole", refuse)
    path = tmp_path / "disk.raw"
    path.write_bytes(b"o" * 3 * MIB)
    target = InPlaceRawTarget(path, Geometry(3 * MIB))
    target.zero(Extent(5, 2 * MIB))
    target.finish()
    assert path.read_bytes() == b"o" * 5 + bytes(2 * MIB) + b"o" * (MIB - 5)


def test_in_place_wants_a_target_of_the_same_size(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1024))
    for size in (512, 2048):
        with pytest.raises(UsageError, match=f"has 1024 bytes, but the disk has {size}"):
            InPlaceRawTarget(path, Geometry(size))
    with pytest.raises(UsageError, match="cannot be opened"):
        InPlaceRawTarget(tmp_path / "missing", Geometry(512))


@pytest.mark.parametrize("in_place", [False, True])
def test_writes_outside_the_disk_are_refused(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / "disk.raw"
    if in_place:
        path.write_bytes(bytes(1024))
    target = InPlaceRawTarget(path, Geometry(1024)) if in_place else RawTarget(path, Geometry(1024))
    with pytest.raises(ValueError, match="leaves the disk"):
        target.write(1024, b"x")
    with pytest.raises(ValueError, match="leaves the disk"):
        target.zero(Extent(512, 1024))
    target.abort()


def test_a_full_target_says_so_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = RawTarget(tmp_path / "disk.raw", Geometry(1024))

    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(CannotWriteError, match=r"disk\.raw: cannot be written: No space") as caught:
        target.write(0, b"x")
    assert "space" in caught.value.hint
    target.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=["ext4", "xfs", "btrfs"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of this kind, on a loop device."""
    need_root()
    program = need(f"mkfs.{request.param}")
    image, folder = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(400 * MIB)
    folder.mkdir()
    subprocess.run([program, "-q", str(image)], check=True, capture_output=True)
    mount = subprocess.run(
        ["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"this kernel mounts no {request.param}: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.integration
def test_holes_and_in_place_zeros_on_each_file_system(mounted: Path) -> None:
    path = sparse_file(mounted / "disk.raw")
    os.sync()
    assert kinds(path) == [ExtentKind.UNMAPPED, ExtentKind.DATA, ExtentKind.UNMAPPED]
    target = InPlaceRawTarget(path, Geometry(3 * MIB))
    target.zero(Extent(MIB, MIB))
    target.write(0, b"y" * MIB)
    target.finish()
    assert path.read_bytes() == b"y" * MIB + bytes(2 * MIB)
    assert kinds(path) == [ExtentKind.DATA, ExtentKind.UNMAPPED]


def kinds(path: Path) -> list[ExtentKind]:
    """Closes the file again: a file system with open files cannot be unmounted."""
    with closing(open_raw(path)) as disk:
        return [extent.kind for extent in check_extents(disk)]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    need_root()
    losetup = need("losetup")
    image = tmp_path / "image"
    image.write_bytes(b"d" * 4 * MIB)
    made = subprocess.run([losetup, "--find", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    try:
        yield Path(made.stdout.strip())
    finally:
        subprocess.run([losetup, "--detach", made.stdout.strip()], check=True)


@pytest.mark.integration
def test_a_block_device_is_read_and_overwritten_in_place(device: Path) -> None:
    disk = open_raw(device)
    assert disk.geometry == Geometry(4 * MIB, 512, 512)
    assert list(disk.extents()) == [Extent(0, 4 * MIB)]
    assert disk.facts.kind == "device"
    target = InPlaceRawTarget(device, Geometry(3 * MIB))  # a larger device will do
    target.write(0, b"new")
    target.zero(Extent(MIB, MIB))
    target.zero(Extent(2 * MIB + 1, 1000))
    target.finish()
    expected = bytearray(b"d" * 4 * MIB)
    expected[:3] = b"new"
    expected[MIB : 2 * MIB] = bytes(MIB)
    expected[2 * MIB + 1 : 2 * MIB + 1001] = bytes(1000)
    assert contents(open_raw(device)) == expected


@pytest.mark.integration
def test_a_device_in_use_is_not_overwritten(device: Path) -> None:
    holder = os.open(device, os.O_RDWR | os.O_EXCL)
    try:
        with pytest.raises(UsageError, match="cannot be opened for writing"):
            InPlaceRawTarget(device, Geometry(4 * MIB))
    finally:
        os.close(holder)


def test_a_fifo_is_no_target(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StillframeError, match="neither a file nor a block device"):
        InPlaceRawTarget(tmp_path / "fifo", Geometry(512))


def test_a_file_of_the_kernel_that_has_no_end_is_no_disk() -> None:
    with pytest.raises(UsageError, match="neither a file nor a block device"):
        open_raw(Path("/proc/self/mem"))
