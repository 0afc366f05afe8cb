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
    """Open a VHD; the disk closes ``reader``, also when this fails.

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
    parent: VhdDisk | None = None
    try:
        found = find_footer(reader)
        if found.footer.kind is VhdType.FIXED:
            return FixedVhd(reader, found)
        header = read_dynamic_header(reader, found.footer)
        if found.footer.kind is VhdType.DIFFERENCING:
            parent = _open_parent(reader, header, path, search, children)
        return BlockVhd(reader, found, header, parent)
    except StillframeError:
        reader.close()
        if parent:
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
    parent_path = find_parent(path, names, search, told_by=reader.name)
    parent_reader = FileReader(parent_path)
    try:
        parent_identity = identity(parent_reader)
        check_chain(reader.name, parent_identity, children)
    except StillframeError:
        parent_reader.close()
        raise
    parent = _open(parent_reader, parent_path, search, (*children, parent_identity))
    if parent.unique_id != header.parent_id:
        parent.close()
        raise CorruptInputError(
            f"{reader.name}: was made on another parent than {parent_path}: its parent's id is"
            f" {header.parent_id.hex()}, that file's is {parent.unique_id.hex()}",
            hint="The parent was replaced, or it is another disk of the same name.",
        )
    return parent
