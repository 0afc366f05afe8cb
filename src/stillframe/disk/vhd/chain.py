"""Opening a VHD with all its parents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stillframe.disk.parents import FileIdentity, check_chain, find_parent, identity
from stillframe.disk.reader import FileReader, RandomReader
from stillframe.disk.vhd.blocks import BlockVhd
from stillframe.disk.vhd.disk import FixedVhd, VhdDisk
from stillframe.disk.vhd.dynamic_header import DynamicHeader, read_dynamic_header
from stillframe.disk.vhd.footer import VhdType, find_footer
from stillframe.disk.vhd.locator import parent_names
from stillframe.errors import CorruptInputError, StillframeError


def open_vhd(reader: RandomReader, *, path: Path | None, search: Sequence[Path] = ()) -> VhdDisk:
    """Open a VHD. The disk owns ``reader`` from here on; after an error the caller still does.

    Parents are looked for in the folder of ``path`` and in the folders of ``search`` only.

    Raises:
        CorruptInputError: the file, or one of its parents, breaks the format's rules, or is not the parent
            that its child was made on.
        UnsupportedError: a version or a table size beyond what this program handles.
        ParentNotFoundError: a parent is not in the folders that may be searched.
    """
    children = (identity(reader),) if isinstance(reader, FileReader) else ()
    return _open(reader, path, search, children)


def _open(
    reader: RandomReader, path: Path | None, search: Sequence[Path], children: tuple[FileIdentity, ...]
) -> VhdDisk:
    found = find_footer(reader)
    if found.footer.kind is VhdType.FIXED:
        return FixedVhd(reader, found)
    header = read_dynamic_header(reader, found.footer)
    if found.footer.kind is VhdType.DYNAMIC:
        return BlockVhd(reader, found, header, None)
    parent = _open_parent(reader, header, path, search, children)
    try:
        return BlockVhd(reader, found, header, parent)
    except StillframeError:
        parent.close()
        raise


def _open_parent(
    reader: RandomReader,
    header: DynamicHeader,
    path: Path | None,
    search: Sequence[Path],
    children: tuple[FileIdentity, ...],
) -> VhdDisk:
    names = parent_names(reader, header.locators, header.parent_name)
    parent_reader = FileReader(find_parent(path, names, search, told_by=reader.name))
    try:
        parent_identity = identity(parent_reader)
        check_chain(reader.name, parent_identity, children)
        parent = _open(parent_reader, Path(parent_reader.name), search, (*children, parent_identity))
    except StillframeError:
        parent_reader.close()
        raise
    _check_linkage(reader.name, header, parent)
    return parent


def _check_linkage(child: str, header: DynamicHeader, parent: VhdDisk) -> None:
    if parent.unique_id != header.parent_id:
        parent.close()
        raise CorruptInputError(
            f"{child}: was made on another parent than {parent.name}: its parent's id is"
            f" {header.parent_id.hex()}, that file's is {parent.unique_id.hex()}",
            hint="The parent was replaced, or it is another disk of the same name.",
        )
