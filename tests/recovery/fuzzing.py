"""Reads all of a damaged disk image; run as a program, so that a crash of a C library is seen as one.

Usage: python -m tests.recovery.fuzzing IMAGE FIRST_SEED ROUNDS
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from stillframe.errors import StillframeError
from stillframe.recovery.files import DiskFiles, Found, walk
from stillframe.recovery.filesystems.interface import Entry, EntryKind
from tests.recovery.images import BytesDisk

_MAX_ENTRIES = 150
_MAX_READ_BYTES = 1 << 20
_ODD = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80")


def damaged(image: bytes, seed: int) -> bytes:
    """The image with a few bytes changed where it holds something, or cut off."""
    rng = random.Random(seed)
    data = bytearray(image)
    blocks = [start for start in range(0, len(data), 4096) if any(data[start : start + 4096])]
    for _ in range(rng.choice([1, 3, 10, 40])):
        start = rng.choice(blocks[:200]) + rng.randrange(4000)
        junk = rng.choice([rng.randbytes(1), rng.choice(_ODD), rng.randbytes(rng.randrange(1, 64))])
        data[start : start + len(junk)] = junk
    if rng.random() < 0.15:
        del data[rng.randrange(512, len(data)) // 512 * 512 :]
    return bytes(data)


def visit(data: bytes) -> None:
    """Open every volume and read every file; StillframeError is the only error that may come."""
    files = DiskFiles(BytesDisk(data))
    try:
        for volume in files.volumes:
            try:
                _visit_volume(files, volume.name)
            except StillframeError:
                continue
    finally:
        files.close()


def _visit_volume(files: DiskFiles, name: str) -> None:
    found = files.locate("" if files.is_whole_disk else name)
    assert found is not None
    for number, (_, entry) in enumerate(walk(found, lambda _: None)):
        if number == _MAX_ENTRIES:
            return
        try:
            _visit_entry(found, entry)
        except StillframeError:
            continue


def _visit_entry(found: Found, entry: Entry) -> None:
    system = found.file_system
    system.xattrs(entry)
    if entry.kind is EntryKind.SYMLINK:
        system.symlink_target(entry)
    if entry.kind is EntryKind.FILE:
        sum(extent.length_bytes for extent in system.extents(entry))
        length = min(entry.size_bytes, _MAX_READ_BYTES)
        system.read_into(entry, 0, memoryview(bytearray(length)))
        system.read_into(entry, entry.size_bytes - length, memoryview(bytearray(length)))


def main(path: str, first: str, rounds: str) -> None:
    image = Path(path).read_bytes()
    for seed in range(int(first), int(first) + int(rounds)):
        print(seed, flush=True)
        try:
            visit(damaged(image, seed))
        except StillframeError:
            continue


if __name__ == "__main__":
    main(*sys.argv[1:])
