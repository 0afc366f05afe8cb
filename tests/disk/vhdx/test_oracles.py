"""What others read in our files: libvhdi, which knows differencing disks, and qemu-img."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import pyvhdi

from stillframe.disk.still import DiskTarget, Extent, ExtentKind, Geometry
from stillframe.disk.vhdx import create_vhdx
from tests.disk.vhdx.reading import open_file, read
from tests.tools import need

MIB = 1 << 20
SIZE = 24 * MIB + 3 * 4096


def scribble(target: DiskTarget, model: bytearray, seed: int, writes: int = 40) -> None:
    """Random data and zeros at random places, aligned to 4096 bytes."""
    chance = random.Random(seed)
    for _ in range(writes):
        offset = chance.randrange(len(model) // 4096) * 4096
        length = min(len(model) - offset, chance.choice([1, 3, 200, 600]) * 4096)
        if chance.random() < 0.3:
            target.zero(Extent(offset, length, ExtentKind.ZERO))
            model[offset : offset + length] = bytes(length)
        else:
            model[offset : offset + length] = chance.randbytes(length)
            target.write(offset, memoryview(model)[offset : offset + length])


def written(
    folder: Path, kind: str, block_bytes: int, sector: int, *, deterministic: bool = False
) -> tuple[Path, bytes]:
    path, model = folder / f"{kind}.vhdx", bytearray(SIZE)
    target = create_vhdx(
        path,
        Geometry(SIZE, sector, 4096),
        kind=kind,
        block_size_bytes=block_bytes,
        deterministic=deterministic,
    )
    scribble(target, model, seed=block_bytes + sector)
    target.finish()
    return path, bytes(model)


def vhdi_read(files: list[Path]) -> bytes:
    """The contents of a chain, child first."""
    opened = []
    for path in files:
        file = pyvhdi.file()
        file.open(str(path))
        opened.append(file)
    for child, parent in pairwise(opened):
        child.set_parent(parent)
    contents = b"".join(vhdi_pieces(opened[0]))
    for file in opened:
        file.close()
    return contents


def vhdi_pieces(file: pyvhdi.file) -> Iterator[bytes]:
    size = file.get_media_size()
    for at in range(0, size, MIB):
        yield file.read_buffer_at_offset(min(MIB, size - at), at)


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
@pytest.mark.parametrize("block_mib", [1, 2, 32, 256])
@pytest.mark.parametrize("sector", [512, 4096])
def test_libvhdi_reads_the_same(tmp_path: Path, kind: str, block_mib: int, sector: int) -> None:
    path, model = written(tmp_path, kind, block_mib * MIB, sector)
    assert vhdi_read([path]) == model


@pytest.mark.parametrize("block_mib", [1, 4])
@pytest.mark.parametrize("deterministic", [False, True])
def test_libvhdi_reads_the_same_chain(tmp_path: Path, block_mib: int, deterministic: bool) -> None:
    base, contents = written(tmp_path, "dynamic", 2 * MIB, 512, deterministic=deterministic)
    model, files = bytearray(contents), [base]
    for level in range(2):
        path = tmp_path / f"child{level}.vhdx"
        target = create_vhdx(
            path,
            Geometry(SIZE, 512, 4096),
            kind="differencing",
            block_size_bytes=block_mib * MIB,
            parent=open_file(files[0]),
            deterministic=deterministic,
        )
        scribble(target, model, seed=level, writes=15)
        target.finish()
        files.insert(0, path)
    ours = read(open_file(files[0]))
    assert ours == model
    assert vhdi_read(files) == ours


def test_libvhdi_finds_the_linkage(tmp_path: Path) -> None:
    base, _ = written(tmp_path, "dynamic", 2 * MIB, 512)
    parent = open_file(base)
    path = tmp_path / "child.vhdx"
    create_vhdx(path, parent.geometry, kind="differencing", parent=parent).finish()
    file = pyvhdi.file()
    file.open(str(path))
    assert file.get_parent_identifier().lower() == str(parent.info.data_write_guid)
    file.close()


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
@pytest.mark.parametrize("block_mib", [1, 32, 256])
@pytest.mark.parametrize("deterministic", [False, True])
def test_qemu_img_checks_and_reads_the_same(
    tmp_path: Path, kind: str, block_mib: int, deterministic: bool
) -> None:
    qemu_img = need("qemu-img")
    path, model = written(tmp_path, kind, block_mib * MIB, 512, deterministic=deterministic)
    raw = tmp_path / "disk.raw"
    raw.write_bytes(model)
    subprocess.run([qemu_img, "check", "-f", "vhdx", path], check=True)
    subprocess.run([qemu_img, "compare", "-f", "vhdx", "-F", "raw", path, raw], check=True)


@pytest.mark.integration
@pytest.mark.parametrize("block_mib", [1, 8, 64])
@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_we_read_what_qemu_img_writes(tmp_path: Path, block_mib: int, subformat: str) -> None:
    qemu_img = need("qemu-img")
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.vhdx"
    chance = random.Random(block_mib)
    model = bytearray(SIZE)
    for _ in range(6):
        offset = chance.randrange(SIZE - MIB)
        model[offset : offset + MIB] = chance.randbytes(MIB)
    raw.write_bytes(model)
    options = f"subformat={subformat},block_size={block_mib}M,log_size=3M"
    subprocess.run([qemu_img, "convert", "-f", "raw", "-O", "vhdx", "-o", options, raw, path], check=True)
    disk = open_file(path)
    assert disk.info.kind == subformat
    assert read(disk)[:SIZE] == model


@pytest.mark.integration
def test_qemu_img_reads_a_disk_of_64_tib(tmp_path: Path) -> None:
    qemu_img, qemu_io = need("qemu-img"), need("qemu-io")
    path = tmp_path / "disk.vhdx"
    target = create_vhdx(path, Geometry(64 << 40), block_size_bytes=256 * MIB)
    target.write((64 << 40) - 4096, b"\x5a" * 4096)
    target.finish()
    subprocess.run([qemu_img, "check", "-f", "vhdx", path], check=True)
    for offset, value in ((0, 0), ((64 << 40) - 8192, 0), ((64 << 40) - 4096, 0x5A)):
        command = [qemu_io, "-r", "-f", "vhdx", "-c", f"read -P {value} {offset} 4096", path]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        assert "read 4096/4096" in found.stdout
        assert "verification failed" not in found.stdout
