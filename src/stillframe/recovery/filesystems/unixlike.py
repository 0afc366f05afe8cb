"""What ext and XFS share: inodes with Unix modes, owners and extended attributes, as libyal shows them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any, Final

from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems.interface import Entry, EntryKind, Listing, Times
from stillframe.recovery.filesystems.libyal import LibyalFileSystem

KINDS: Final = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.DIRECTORY,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFSOCK: EntryKind.SOCKET,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
}


def kind_of(mode: int) -> EntryKind:
    """The kind that the upper bits of a Unix mode tell."""
    return KINDS.get(stat.S_IFMT(mode), EntryKind.OTHER)


class UnixLikeFileSystem(LibyalFileSystem):
    """ext and XFS through libfsext and libfsxfs, whose objects have the same shape."""

    def root(self) -> Entry:
        with self._parsing("the root directory"):
            found = self._volume.get_root_directory()
            return self._entry("", found)

    def list(self, directory: Entry) -> Listing:
        with self._parsing(directory.name or "/"):
            parent = self._object(directory.node)
            count = parent.number_of_sub_file_entries
        entries: list[Entry] = []
        problems: list[str] = []
        for number in range(count):
            try:
                entries += self._child(directory, parent, number)
            except CorruptInputError as error:
                problems.append(str(error))
        return Listing(tuple(entries), tuple(problems))

    def symlink_target(self, link: Entry) -> str:
        with self._parsing(link.name):
            return str(self._object(link.node).symbolic_link_target)

    def _parse(self, node: int) -> Any:
        return self._volume.get_file_entry_by_inode(node)

    def _child(self, directory: Entry, parent: Any, number: int) -> Iterator[Entry]:
        with self._parsing(f"entry {number} of {directory.name or '/'}"):
            child = parent.get_sub_file_entry(number)
            name = child.name
            return iter(() if name in {".", ".."} else (self._entry(name, child),))

    def _entry(self, name: str, found: Any) -> Entry:
        mode = found.file_mode
        kind = kind_of(mode)
        node = found.inode_number
        shared = kind is not EntryKind.DIRECTORY and found.number_of_links > 1
        return Entry(
            name=name,
            node=node,
            kind=kind,
            size_bytes=found.size,
            times=self._times(found),
            mode=stat.S_IMODE(mode),
            owner=found.owner_identifier,
            group=found.group_identifier,
            link_key=str(node) if shared else None,
        )

    def _times(self, found: Any) -> Times:
        return Times(
            modified_ns=found.get_modification_time_as_integer(),
            accessed_ns=found.get_access_time_as_integer(),
            changed_ns=found.get_inode_change_time_as_integer(),
            created_ns=found.get_creation_time_as_integer(),
        )
