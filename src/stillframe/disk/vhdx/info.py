"""What a VHDX file says of itself, for people and for messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from stillframe.disk.still import Geometry
from stillframe.disk.vhdx.image import Image
from stillframe.disk.vhdx.locator import ParentLocator


class DiskKind(StrEnum):
    """The three kinds of VHDX; a fixed one is read through its BAT like any other."""

    FIXED = "fixed"
    DYNAMIC = "dynamic"
    DIFFERENCING = "differencing"


@dataclass(frozen=True, slots=True)
class VhdxInfo:
    """``log_entries`` were replayed in memory; 0 means that the file was closed cleanly.

    ``chain`` lists the ancestors' files, parent first. ``file_write_id`` changes whenever the file does,
    ``data_write_id`` whenever the guest's data does.
    """

    file: str
    path: Path | None
    creator: str
    kind: DiskKind
    block_size_bytes: int
    geometry: Geometry
    disk_id: UUID
    file_write_guid: UUID
    data_write_guid: UUID
    log_replayed: bool
    log_entries: int
    parent_locator: ParentLocator | None
    chain: tuple[str, ...]


def describe(images: Sequence[Image]) -> VhdxInfo:
    """``images`` is a chain, child first."""
    image = images[0]
    return VhdxInfo(
        file=image.name,
        path=image.path,
        creator=image.creator,
        kind=_kind(image),
        block_size_bytes=image.metadata.block_bytes,
        geometry=image.metadata.geometry,
        disk_id=image.metadata.disk_id,
        file_write_guid=image.header.file_write_id,
        data_write_guid=image.header.data_write_id,
        log_replayed=not image.header.log_is_empty,
        log_entries=image.replay.entries,
        parent_locator=image.locator,
        chain=tuple(each.name for each in images[1:]),
    )


def _kind(image: Image) -> DiskKind:
    if image.metadata.has_parent:
        return DiskKind.DIFFERENCING
    return DiskKind.FIXED if image.metadata.leave_blocks_allocated else DiskKind.DYNAMIC
