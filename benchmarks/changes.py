"""What a working machine does between two backups: a hundredth of it rewritten, in small pieces all over."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.generator import text

PIECE_BYTES = 64 * 1024


def places(size_bytes: int, share: float, seed: int) -> list[int]:
    """Offsets of the pieces to rewrite, ascending, each at a 64 KiB boundary, as change tracking says."""
    slots = size_bytes // PIECE_BYTES
    count = max(1, round(slots * share))
    chosen = np.random.default_rng([seed, 2]).choice(slots, count, replace=False)
    return [slot * PIECE_BYTES for slot in sorted(chosen.tolist())]


def piece(offset_bytes: int, seed: int) -> bytes:
    """What is written there: half text, half random."""
    random = np.random.default_rng([seed, 3, offset_bytes // PIECE_BYTES])
    return text(random, PIECE_BYTES // 2) + random.bytes(PIECE_BYTES // 2)


def write_changed(source: Path, target: Path, extents: Path, share: float, seed: int) -> int:
    """Make ``target`` the disk ``source`` after changes, ``extents`` their list; return the bytes changed."""
    size_bytes = source.stat().st_size
    offsets = places(size_bytes, share, seed)
    subprocess.run(["cp", "--reflink=never", "--sparse=auto", str(source), str(target)], check=True)
    with open(target, "r+b") as disk:
        for offset_bytes in offsets:
            disk.seek(offset_bytes)
            disk.write(piece(offset_bytes, seed))
        os.fdatasync(disk.fileno())
    extents.write_text(json.dumps(merged(offsets)))
    return len(offsets) * PIECE_BYTES


def merged(offsets: Iterable[int]) -> list[list[int]]:
    """``[[offset_bytes, length_bytes], ...]`` of ascending pieces, neighbours joined."""
    extents: list[list[int]] = []
    for offset_bytes in offsets:
        if extents and sum(extents[-1]) == offset_bytes:
            extents[-1][1] += PIECE_BYTES
        else:
            extents.append([offset_bytes, PIECE_BYTES])
    return extents
