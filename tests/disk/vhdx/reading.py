"""How tests open and read disks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from stillframe.disk.reader import FileReader, RandomReader
from stillframe.disk.still import Extent, ExtentKind, StillDisk
from stillframe.disk.vhdx import VhdxDisk, open_vhdx

MIB = 1 << 20


_opened: list[VhdxDisk] = []


def open_file(path: Path, search: Sequence[Path] = ()) -> VhdxDisk:
    """Open; it is closed at the end of the test, or earlier by ``close_all``."""
    disk = open_vhdx(FileReader(path), path=path, search=search)
    _opened.append(disk)
    return disk


def close_all() -> None:
    while _opened:
        _opened.pop().close()


def open_memory(reader: RandomReader) -> VhdxDisk:
    return open_vhdx(reader, path=None)


def read(disk: StillDisk, offset: int = 0, length: int | None = None) -> bytes:
    buffer = bytearray(disk.geometry.size_bytes - offset if length is None else length)
    disk.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def sha256(disk: StillDisk) -> str:
    """Of the whole logical disk; what the extents call zero is not read."""
    digest, buffer, zeros = hashlib.sha256(), bytearray(MIB), bytes(MIB)
    for extent in disk.extents():
        for at in range(extent.offset_bytes, extent.end_bytes, MIB):
            length = min(MIB, extent.end_bytes - at)
            if extent.kind is ExtentKind.DATA:
                view = memoryview(buffer)[:length]
                disk.read_into(at, view)
                digest.update(view)
            else:
                digest.update(memoryview(zeros)[:length])
    return digest.hexdigest()


def kinds(extents: Sequence[Extent]) -> list[tuple[str, int, int]]:
    """Extents in MiB, for comparing."""
    return [(each.kind.value, each.offset_bytes // MIB, each.length_bytes // MIB) for each in extents]


def check_extents(disk: StillDisk) -> None:
    """The whole disk in order, without gaps or overlaps, and only data may hold anything."""
    position = 0
    for extent in disk.extents():
        assert extent.offset_bytes == position
        assert extent.length_bytes > 0
        position = extent.end_bytes
        if extent.kind is not ExtentKind.DATA:
            assert not any(read(disk, extent.offset_bytes, extent.length_bytes))
    assert position == disk.geometry.size_bytes
