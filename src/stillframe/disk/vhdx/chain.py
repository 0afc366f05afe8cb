"""Chains of differencing disks: a child names its parent by path and data write id ([MS-VHDX] 2.6.2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stillframe.disk.parents import FileIdentity, check_chain, find_parent, identity
from stillframe.disk.reader import FileReader, RandomReader
from stillframe.disk.vhdx.errors import UnsupportedVhdxError, WrongParentError
from stillframe.disk.vhdx.image import Image, open_image
from stillframe.disk.vhdx.map_pages import MapPages
from stillframe.disk.vhdx.overlay import MAX_REPLAYED_DESCRIPTORS
from stillframe.errors import StillframeError


def open_chain(reader: RandomReader, path: Path | None, search: Sequence[Path]) -> list[Image]:
    """The file and its ancestors, child first. On failure all that was opened here is closed again.

    Raises:
        ParentNotFoundError: a parent is not in the child's folder or in ``search``.
        WrongParentError: a parent was changed after its child was made from it, or is another disk.
        CorruptInputError: a file of the chain is damaged, or the chain is a cycle or too deep.
    """
    pages = MapPages()
    images = [open_image(reader, path, pages)]
    identities = [identity(reader)] if isinstance(reader, FileReader) else []
    try:
        while images[-1].locator is not None:
            images.append(_open_parent(images[-1], search, pages, identities))
            _check_replayed(images)
    except StillframeError:
        close_parents(images)
        raise
    return images


def close_parents(images: Sequence[Image]) -> None:
    for image in images[1:]:
        image.reader.close()


def _open_parent(
    child: Image, search: Sequence[Path], pages: MapPages, identities: list[FileIdentity]
) -> Image:
    assert child.locator is not None
    path = find_parent(child.path, child.locator.paths, search, told_by=child.name)
    reader = FileReader(path)
    try:
        check_chain(child.name, identity(reader), identities)
        identities.append(identity(reader))
        parent = open_image(reader, path, pages)
        _check_linkage(child, parent)
    except StillframeError:
        reader.close()
        raise
    return parent


def _check_linkage(child: Image, parent: Image) -> None:
    assert child.locator is not None
    found = parent.header.data_write_id
    if found not in child.locator.linkage:
        wanted = " or ".join(str(each) for each in child.locator.linkage)
        raise WrongParentError(
            f"{child.name}: made from a parent with data write id {wanted}, but {parent.name} has {found}",
            hint="The parent was changed after the child was made, or is another disk; find the right one.",
        )
    sector = child.metadata.geometry.logical_sector_bytes
    if parent.metadata.geometry.logical_sector_bytes != sector:
        raise WrongParentError(
            f"{child.name}: has sectors of {sector} bytes, its parent {parent.name} has not"
        )


def _check_replayed(images: Sequence[Image]) -> None:
    count = sum(image.replay.descriptors for image in images)
    if count > MAX_REPLAYED_DESCRIPTORS:
        raise UnsupportedVhdxError(
            f"{images[0].name}: {count} log descriptors in its chain; we allow {MAX_REPLAYED_DESCRIPTORS}"
        )
