"""Making VHDs for the tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stillframe.disk.reader import FileReader
from stillframe.disk.still import Geometry
from stillframe.disk.vhd import Parent, VhdDisk, create_vhd, open_vhd
from stillframe.disk.vhd.checksum import checksum
from stillframe.disk.vhd.writer import VhdKind

MIB = 1 << 20


def make_vhd(
    path: Path,
    writes: Iterable[tuple[int, bytes]] = (),
    *,
    size_bytes: int = 4 * MIB,
    kind: VhdKind = "dynamic",
    block_bytes: int | None = None,
) -> Path:
    target = create_vhd(path, Geometry(size_bytes), kind=kind, block_size_bytes=block_bytes)
    for offset, data in writes:
        target.write(offset, data)
    target.finish()
    return path


def make_child(
    path: Path,
    parent: Path,
    writes: Iterable[tuple[int, bytes]] = (),
    *,
    size_bytes: int | None = None,
    block_bytes: int | None = None,
) -> Path:
    disk = open_file(parent)
    geometry = Geometry(size_bytes or disk.geometry.size_bytes)
    target = create_vhd(
        path, geometry, kind="differencing", block_size_bytes=block_bytes, parent=Parent(disk, parent)
    )
    for offset, data in writes:
        target.write(offset, data)
    target.finish()
    disk.close()
    return path


def open_file(path: Path, *, search: Iterable[Path] = ()) -> VhdDisk:
    return open_vhd(FileReader(path), path=path, search=list(search))


def patch(path: Path, offset: int, value: bytes) -> None:
    """Overwrite some bytes and set the checksums of footer, its copy and the dynamic header right again."""
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(resealed(data))


def resealed(data: bytearray) -> bytearray:
    """Make the checksums fit again, wherever the structures still stand at their usual places."""
    places = [(0, 512, 64), (len(data) - 512, 512, 64), (512, 1024, 36)]
    for start, length, field in places:
        if start >= 0 and start + length <= len(data):
            value = checksum(bytes(data[start : start + length]), field)
            data[start + field : start + field + 4] = value.to_bytes(4)
    return data
