"""Cylinders, heads and sectors: what an ATA BIOS is told of the disk. No reader should size a disk by it."""

from __future__ import annotations

from dataclasses import dataclass

_SECTOR_BYTES = 512
_MAX_CYLINDERS = 65535


@dataclass(frozen=True, slots=True)
class ChsGeometry:
    """A geometry as the footer stores it."""

    cylinders: int
    heads: int
    sectors_per_track: int


def chs_geometry(size_bytes: int) -> ChsGeometry:
    """The geometry for a disk of this size, by the algorithm in the specification's appendix."""
    sectors = min(size_bytes // _SECTOR_BYTES, _MAX_CYLINDERS * 16 * 255)
    if sectors >= _MAX_CYLINDERS * 16 * 63:
        per_track, heads = 255, 16
    else:
        per_track, heads = _small_disk(sectors)
    return ChsGeometry(sectors // per_track // heads, heads, per_track)


def _small_disk(sectors: int) -> tuple[int, int]:
    tracks = sectors // 17
    heads = max(4, (tracks + 1023) // 1024)
    if heads <= 16 and tracks < heads * 1024:
        return 17, heads
    if sectors // 31 < 16 * 1024:
        return 31, 16
    return 63, 16
