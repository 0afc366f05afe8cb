"""Conversions among all formats, with qemu-img as the judge."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from stillframe.disk.compare import compare_disks
from stillframe.disk.convert import copy_disk, finishing
from stillframe.disk.create import FORMATS, DiskFormat, DiskKind, create_disk
from stillframe.disk.open import open_disk
from tests.tools import need

pytestmark = pytest.mark.integration

MIB = 1 << 20
SIZE = 41 * MIB + 3 * 512
QEMU_NAMES: dict[str, str] = {"vhdx": "vhdx", "vhd": "vpc", "raw": "raw", "qcow2": "qcow2"}
SHAPES: list[tuple[DiskFormat, DiskKind | None]] = [
    (format, kind) for format in ("vhdx", "vhd") for kind in get_args(DiskKind)
] + [("raw", None), ("qcow2", None)]


def qemu(*arguments: object) -> str:
    command = [need("qemu-img"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk with data at both ends, pieces smaller than any block, and zeros inside data."""
    path = tmp_path_factory.mktemp("original") / "disk.raw"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, length in ((0, 512), (3 * MIB - 700, 1400), (9 * MIB, 2 * MIB), (SIZE - 600, 600)):
            file.seek(offset)
            file.write(os.urandom(length))
        file.seek(20 * MIB)
        file.write(bytes(MIB) + b"x" + bytes(MIB))
    return path


def convert(source: Path, destination: Path, format: DiskFormat, kind: DiskKind | None = None) -> Path:
    with closing(open_disk(source)) as disk:
        target = create_disk(destination, disk.geometry, format=format, kind=kind)
        with finishing(target):
            copy_disk(disk, target)
    return destination


@pytest.mark.parametrize(("format", "kind"), SHAPES)
def test_qemu_reads_what_we_write(
    original: Path, tmp_path: Path, format: DiskFormat, kind: DiskKind | None
) -> None:
    made = convert(original, tmp_path / "made", format, kind)
    name = QEMU_NAMES[format]
    qemu("compare", "-f", "raw", "-F", name, original, made)
    assert json.loads(qemu("info", "--output=json", "-f", name, made))["virtual-size"] == SIZE
    if format in ("vhdx", "qcow2"):
        qemu("check", "-f", name, made)
    assert made.stat().st_blocks * 512 < 15 * MIB or format == "vhdx"


@pytest.mark.parametrize("format", FORMATS)
def test_we_read_what_qemu_writes(original: Path, tmp_path: Path, format: DiskFormat) -> None:
    made = tmp_path / "made"
    # QEMU rounds a VHD up to whole cylinders unless it is told not to.
    options = ["-o", "force_size=on"] if format == "vhd" else []
    qemu("convert", "-f", "raw", "-O", QEMU_NAMES[format], *options, original, made)
    with closing(open_disk(original)) as expected, closing(open_disk(made)) as found:
        # QEMU makes a VHDX a whole number of mebibytes.
        difference = compare_disks(expected, found)
        assert difference is None or (format == "vhdx" and difference == SIZE < found.geometry.size_bytes)


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_vhds_of_qemu_in_both_kinds(original: Path, tmp_path: Path, subformat: str) -> None:
    made = tmp_path / "made"
    options = f"subformat={subformat},force_size=on"
    qemu("convert", "-f", "raw", "-O", "vpc", "-o", options, original, made)
    with closing(open_disk(original)) as expected, closing(open_disk(made)) as found:
        assert compare_disks(expected, found) is None


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(FORMATS, 2)))
def test_a_round_trip_through_any_two_formats(
    original: Path, tmp_path: Path, first: DiskFormat, second: DiskFormat
) -> None:
    need("qemu-img")
    there = convert(original, tmp_path / "there", first)
    onward = convert(there, tmp_path / "onward", second)
    back = convert(onward, tmp_path / "back", "raw")
    assert back.read_bytes() == original.read_bytes()
