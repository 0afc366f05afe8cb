"""Making a disk of any format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from stillframe.disk.still import DiskTarget, Geometry
from stillframe.errors import UsageError

DiskFormat = Literal["vhdx", "vhd", "raw", "qcow2"]
DiskKind = Literal["fixed", "dynamic"]

FORMATS: tuple[DiskFormat, ...] = ("vhdx", "vhd", "raw", "qcow2")
_SUFFIXES: dict[str, DiskFormat] = {
    ".vhdx": "vhdx",
    ".avhdx": "vhdx",
    ".vhd": "vhd",
    ".avhd": "vhd",
    ".vpc": "vhd",
    ".raw": "raw",
    ".img": "raw",
    ".qcow2": "qcow2",
    ".qcow": "qcow2",
}


def format_of_name(path: Path) -> DiskFormat:
    """The format that a new file's suffix asks for.

    Raises:
        UsageError: the suffix names none.
    """
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        hint = f"Name one of {', '.join(FORMATS)} with --format."
        raise UsageError(f"{path}: its suffix does not tell the format", hint=hint)
    return found


def create_disk(
    path: Path,
    geometry: Geometry,
    *,
    format: DiskFormat,
    kind: DiskKind | None = None,
    block_size_bytes: int | None = None,
    deterministic: bool = False,
) -> DiskTarget:
    """Begin a standalone disk; it appears as ``path`` when it is finished, and nothing is overwritten.

    ``kind`` None means dynamic where the format knows it. A raw file has neither kind nor blocks; in qcow2
    a block is a cluster. ``deterministic``: equal writes in equal order make equal files (qcow2 and raw
    carry nothing that varies anyway).

    Raises:
        UsageError: ``path`` exists, or the options do not fit the format.
        UnsupportedError: the format cannot hold such a disk, or cannot be written on this machine.
        CannotWriteError: the file cannot be made.
    """
    if format == "vhdx":
        from stillframe.disk.vhdx import create_vhdx
        from stillframe.disk.vhdx.writer import DEFAULT_BLOCK_BYTES

        return create_vhdx(
            path,
            geometry,
            kind=kind or "dynamic",
            block_size_bytes=block_size_bytes or DEFAULT_BLOCK_BYTES,
            deterministic=deterministic,
        )
    if format == "vhd":
        from stillframe.disk.vhd import create_vhd

        return create_vhd(
            path,
            geometry,
            kind=kind or "dynamic",
            block_size_bytes=block_size_bytes,
            deterministic=deterministic,
        )
    if format == "qcow2":
        from stillframe.disk.qcow2 import Qcow2Target

        _refuse(path, "qcow2 is always dynamic", kind == "fixed")
        return Qcow2Target(path, geometry, cluster_bytes=block_size_bytes)
    from stillframe.disk.raw import RawTarget

    _refuse(path, "a raw disk is neither fixed nor dynamic", kind is not None)
    _refuse(path, "a raw disk has no blocks", block_size_bytes is not None)
    return RawTarget(path, geometry)


def _refuse(path: Path, reason: str, wanted: bool) -> None:
    if wanted:
        raise UsageError(f"{path}: {reason}")
