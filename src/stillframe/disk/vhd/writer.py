"""Making VHDs: fixed, dynamic and differencing, in any order, from several threads, in little memory."""

from __future__ import annotations

import hashlib
import time
import uuid
from pathlib import Path
from typing import Literal

from stillframe.disk.still import DiskTarget, Geometry
from stillframe.disk.vhd.block_writer import BlockVhdTarget, Parent
from stillframe.disk.vhd.dynamic_header import (
    DEFAULT_BLOCK_BYTES,
    MAX_BLOCK_BYTES,
    MAX_BLOCKS,
    MIN_BLOCK_BYTES,
)
from stillframe.disk.vhd.fixed_writer import FixedVhdTarget
from stillframe.disk.vhd.footer import (
    FOOTER_BYTES,
    MAX_DYNAMIC_BYTES,
    NO_HEADER,
    SECTOR_BYTES,
    Footer,
    VhdType,
)
from stillframe.disk.vhd.geometry import chs_geometry
from stillframe.errors import UnsupportedError, UsageError

_EPOCH_S = 946_684_800  # 2000-01-01 UTC

VhdKind = Literal["fixed", "dynamic", "differencing"]
_TYPES = {"fixed": VhdType.FIXED, "dynamic": VhdType.DYNAMIC, "differencing": VhdType.DIFFERENCING}


def create_vhd(
    path: Path,
    geometry: Geometry,
    *,
    kind: VhdKind = "dynamic",
    block_size_bytes: int | None = None,
    disk_id: uuid.UUID | None = None,
    parent: Parent | None = None,
    deterministic: bool = False,
) -> DiskTarget:
    """Begin a VHD that appears as ``path`` when it is finished.

    A range that is never written reads as zeros, in a differencing disk as the parent. A ``deterministic``
    disk carries no time and an id derived from its shape, so that equal writes in equal order make equal
    files. ``block_size_bytes`` is a power of two (Windows knows 512 KiB and, the default, 2 MiB).

    Raises:
        UsageError: ``path`` exists, or the options do not fit together.
        UnsupportedError: a disk of this shape cannot be a VHD.
        CannotWriteError: the file cannot be made.
    """
    _check_shape(geometry, kind)
    if (kind == "differencing") != (parent is not None):
        raise UsageError(f"{path}: a differencing disk, and no other, is made on a parent")
    footer = _footer(geometry, kind, disk_id or _new_id(geometry, kind, parent, deterministic), deterministic)
    if kind == "fixed":
        if block_size_bytes is not None:
            raise UsageError(f"{path}: a fixed disk has no blocks")
        return FixedVhdTarget(path, geometry, footer)
    block_bytes = block_size_bytes or DEFAULT_BLOCK_BYTES
    _check_blocks(geometry, block_bytes)
    return BlockVhdTarget(path, geometry, footer, block_bytes, parent)


def _check_shape(geometry: Geometry, kind: VhdKind) -> None:
    hint = "Make it a VHDX."
    if geometry.logical_sector_bytes != SECTOR_BYTES:
        raise UnsupportedError(f"a VHD has no sectors of {geometry.logical_sector_bytes} bytes", hint=hint)
    if geometry.size_bytes > MAX_DYNAMIC_BYTES:
        raise UnsupportedError(f"a {kind} VHD holds at most 2040 GiB", hint=hint)
    if geometry.size_bytes <= 0 or geometry.size_bytes % SECTOR_BYTES:
        raise UsageError(f"{geometry.size_bytes} bytes are not a whole number of sectors")


def _check_blocks(geometry: Geometry, block_bytes: int) -> None:
    if block_bytes & (block_bytes - 1) or not MIN_BLOCK_BYTES <= block_bytes <= MAX_BLOCK_BYTES:
        raise UsageError(f"VHD blocks are a power of two from 4 KiB to 256 MiB, not {block_bytes} bytes")
    if -(-geometry.size_bytes // block_bytes) > MAX_BLOCKS:
        raise UsageError(f"blocks of {block_bytes} bytes are too small for a disk of {geometry.size_bytes}")


def _new_id(geometry: Geometry, kind: VhdKind, parent: Parent | None, deterministic: bool) -> uuid.UUID:
    if not deterministic:
        return uuid.uuid4()
    below = parent.disk.unique_id.hex() if parent else ""
    shape = f"{kind} {geometry.size_bytes} {below}"
    return uuid.UUID(bytes=hashlib.sha256(shape.encode("ascii")).digest()[:16])


def _footer(geometry: Geometry, kind: VhdKind, disk_id: uuid.UUID, deterministic: bool) -> Footer:
    return Footer(
        kind=_TYPES[kind],
        current_size_bytes=geometry.size_bytes,
        original_size_bytes=geometry.size_bytes,
        header_offset_bytes=NO_HEADER if kind == "fixed" else FOOTER_BYTES,
        timestamp_s=0 if deterministic else int(time.time()) - _EPOCH_S,
        # QEMU sizes a disk by its geometry, cutting off its end, unless it knows the creator as one that
        # means the current size. Windows is the one that all readers know.
        creator=b"win ",
        creator_version=0x000A_0000,
        creator_host=b"Wi2k",
        geometry=chs_geometry(geometry.size_bytes),
        unique_id=disk_id.bytes_le,
    )
