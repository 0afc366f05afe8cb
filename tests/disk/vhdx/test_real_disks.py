"""Disks that Windows and QEMU made; the hashes are qemu-img's, after its own log replay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from stillframe.disk.reader import FileReader
from stillframe.disk.still import CannotTellChangesError, ExtentKind, StillDisk
from stillframe.disk.vhdx import DiskKind, image, open_vhdx
from stillframe.disk.vhdx.header import Header
from tests.disk.vhdx.reading import open_file, sha256

DiskFinder = Callable[[str], Path]
DIRTY = "iotest-dirtylog-10G-4M.vhdx"
WITHOUT_REPLAY = "cc3d67a6"


def data_mib(disk: StillDisk) -> int:
    return sum(each.length_bytes for each in disk.extents() if each.kind is ExtentKind.DATA) >> 20


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("iotest-dynamic-1G.vhdx", "d3d112d8dab7fd360609f7d5a7b769904b7a2a7d7b6b8c535f65a23293c05478"),
        ("linux-btrfs.vhdx", "0b959f9cb4e18348ad8b646f152178282542c8304f02fddf765e3fd1a1de6864"),
        pytest.param(
            DIRTY,
            "179cefe8b0587f123393eedf2aa7aa8d25798591178e6bc3950a09762f38f96f",
            marks=pytest.mark.integration,  # hashing 10 GiB takes its time
        ),
        pytest.param(
            "linux-xfs.vhdx",
            "8ca2bd2d91f1c6ada47128fc2f8d38587e73954ede5a664fe2bb09c19606060e",
            marks=pytest.mark.integration,
        ),
    ],
)
def test_contents(real_disk: DiskFinder, name: str, digest: str) -> None:
    assert sha256(open_file(real_disk(name))) == digest


def without_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the reader believe that nothing is to be replayed."""
    real = image.read_current_header

    def clean(reader: FileReader) -> Header:
        return replace(real(reader), log_id=UUID(int=0))

    monkeypatch.setattr(image, "read_current_header", clean)


def test_replay_finds_the_block_that_only_the_log_knows(
    real_disk: DiskFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = real_disk(DIRTY)
    replayed = open_file(path)
    assert replayed.info.log_replayed
    assert replayed.info.log_entries == 1
    assert data_mib(replayed) == 18
    without_log(monkeypatch)
    assert data_mib(open_file(path)) == 17


@pytest.mark.integration
def test_without_replay_the_disk_is_silently_wrong(
    real_disk: DiskFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_log(monkeypatch)
    assert sha256(open_file(real_disk(DIRTY))).startswith(WITHOUT_REPLAY)


def test_replay_does_not_touch_the_file(real_disk: DiskFinder) -> None:
    path = real_disk(DIRTY)
    before = hashlib.sha256(path.read_bytes()).digest()
    open_file(path).close()
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_info(real_disk: DiskFinder) -> None:
    info = open_file(real_disk("iotest-dynamic-1G.vhdx")).info
    assert info.creator == "Microsoft Windows 6.2.9200.16384"
    assert info.kind is DiskKind.DYNAMIC
    assert info.block_size_bytes == 32 << 20
    assert (info.geometry.logical_sector_bytes, info.geometry.physical_sector_bytes) == (512, 4096)
    assert not info.log_replayed
    assert info.chain == ()


def test_is_a_still_disk_that_tracks_no_changes(real_disk: DiskFinder) -> None:
    disk = open_file(real_disk("linux-btrfs.vhdx"))
    assert isinstance(disk, StillDisk)
    assert disk.disk_id == "d38d4f63-596a-467e-b103-506dab1b3208"
    assert disk.token is None
    with pytest.raises(CannotTellChangesError):
        disk.changed("anything")


def test_extents_read_no_guest_data(real_disk: DiskFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = real_disk("linux-btrfs.vhdx")
    disk = open_vhdx(FileReader(path), path=path)
    offsets: list[int] = []
    real = FileReader.read_into
    monkeypatch.setattr(
        FileReader,
        "read_into",
        lambda self, offset, buffer: (offsets.append(offset), real(self, offset, buffer))[1],
    )
    assert len(list(disk.extents())) > 1
    first_block = 4 << 20
    assert all(offset < first_block for offset in offsets)


def test_close_closes_the_file(real_disk: DiskFinder) -> None:
    path = real_disk("linux-btrfs.vhdx")
    reader = FileReader(path)
    open_vhdx(reader, path=path).close()
    assert reader.fileno() == -1
