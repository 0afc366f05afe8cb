"""qcow2 beside QEMU itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from stillframe.disk.create import create_disk
from stillframe.disk.open import open_disk
from stillframe.disk.qcow2 import Qcow2Target
from stillframe.disk.staged import CannotWriteError
from stillframe.disk.still import ExtentKind, Geometry, joined
from stillframe.errors import UnsupportedError, UsageError
from tests.disk.disks import check_extents, read_file
from tests.tools import need

pytestmark = pytest.mark.integration

MIB = 1 << 20
SCRIPT = [
    "write -P 17 0 1M",
    "write -P 34 5M 300k",
    "write -z 0 128k",
    "write -z 20M 1M",
    "write -P 51 -c 10M 2M",
    "discard 512k 64k",
    "write -P 68 33553920 512",
]


def qemu(*arguments: object) -> str:
    command = [need("qemu-img"), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["", "compat=0.10", "cluster_size=512", "cluster_size=2M", "lazy_refcounts=on"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image as a guest may leave it: data, zeros by flag, compressed clusters, discards."""
    path = tmp_path / "disk.qcow2"
    options = ["-o", request.param] if request.param else []
    qemu("create", "-q", "-f", "qcow2", *options, path, 32 * MIB + 512)
    commands = [part for command in SCRIPT for part in ("-c", command)]
    subprocess.run([need("qemu-io"), "-f", "qcow2", *commands, path], check=True, capture_output=True)
    return path


def test_reads_and_maps_as_qemu_does(written: Path) -> None:
    raw = written.with_suffix(".raw")
    qemu("convert", "-O", "raw", written, raw)
    assert read_file(written) == raw.read_bytes()
    disk = open_disk(written)
    check_extents(disk)
    unmapped = [each for each in joined(disk.extents()) if each.kind is ExtentKind.UNMAPPED]
    told = json.loads(qemu("map", "--output=json", written))
    absent = [(each["start"], each["length"]) for each in told if not each["present"]]
    assert [(each.offset_bytes, each.length_bytes) for each in unmapped] == absent


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_compressed_images(tmp_path: Path, method: str) -> None:
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(b"text " * 200_000 + os.urandom(MIB) + bytes(MIB))
    os.truncate(raw, 4 * MIB)
    qemu("convert", "-f", "raw", "-O", "qcow2", "-c", "-o", f"compression_type={method}", raw, path)
    assert read_file(path) == raw.read_bytes()


def test_an_image_with_a_backing_file_is_refused_and_that_file_is_not_touched(tmp_path: Path) -> None:
    base, path = tmp_path / "base.qcow2", tmp_path / "child.qcow2"
    qemu("create", "-q", "-f", "qcow2", base, MIB)
    qemu("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path)
    base.unlink()
    os.mkfifo(base)  # whoever opens it to read would wait here for ever
    with pytest.raises(UnsupportedError, match=r"child\.qcow2: has a backing file"):
        open_disk(path)


@pytest.mark.parametrize("cluster_bytes", [None, 4096])
def test_what_is_written_passes_qemus_check(tmp_path: Path, cluster_bytes: int | None) -> None:
    path = tmp_path / "disk.qcow2"
    target = create_disk(path, Geometry(8 * MIB), format="qcow2", block_size_bytes=cluster_bytes)
    target.write(5 * MIB, b"x" * 100_000)
    target.write(0, b"begin")
    assert not path.exists()
    target.finish()
    target.abort()
    assert [each.name for each in tmp_path.iterdir()] == ["disk.qcow2"]
    qemu("check", "-f", "qcow2", path)
    expected = b"begin".ljust(5 * MIB, b"\0") + b"x" * 100_000
    assert read_file(path) == expected.ljust(8 * MIB, b"\0")


def test_nothing_stays_of_an_image_given_up(tmp_path: Path) -> None:
    Qcow2Target(tmp_path / "disk.qcow2", Geometry(MIB)).abort()
    assert list(tmp_path.iterdir()) == []


def test_when_qemu_fails_its_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Qcow2Target(tmp_path / "disk.qcow2", Geometry(MIB))
    monkeypatch.setattr(target, "_image", tmp_path / "no-such-folder" / "image")
    with pytest.raises(CannotWriteError, match=r"qemu-img failed: .*no-such-folder"):
        target.finish()
    target.abort()
    assert list(tmp_path.iterdir()) == []


def test_without_qemu_there_is_a_clear_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="not installed") as caught:
        Qcow2Target(tmp_path / "disk.qcow2", Geometry(MIB))
    assert "qemu-utils" in caught.value.hint


def test_clusters_that_qcow2_does_not_know_are_refused(tmp_path: Path) -> None:
    need("qemu-img")
    with pytest.raises(UsageError, match="not 3000"):
        Qcow2Target(tmp_path / "disk.qcow2", Geometry(MIB), cluster_bytes=3000)
