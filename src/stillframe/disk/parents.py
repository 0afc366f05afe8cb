"""Where a differencing disk may look for its parent.

The names come from inside a file, so they are hostile: nothing is ever opened outside the child's own folder
and the folders that the operator allowed, after all links are resolved.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath

from stillframe.disk.reader import FileReader
from stillframe.errors import CorruptInputError, UsageError

MAX_CHAIN_DEPTH = 64

FileIdentity = tuple[int, int]
"""Device and inode of an open file; tells two names of one file apart from two files."""


class ParentNotFoundError(UsageError):
    """A differencing disk's parent is not where this program may look for it."""


def find_parent(child: Path | None, names: Iterable[str], search: Sequence[Path], *, told_by: str) -> Path:
    """The parent's resolved path, tried in the order of ``names`` (paths as Windows writes them).

    A relative name is tried from the child's real folder; the last part of every name there and in each
    folder of ``search``. ``told_by`` names the child in messages.

    Raises:
        ParentNotFoundError: no such file, or only outside the allowed folders.
    """
    if child is None:
        raise ParentNotFoundError(
            f"{told_by}: is a differencing disk, and its parent cannot be looked for here"
        )
    folder = child.resolve().parent
    allowed = [folder, *(each.resolve() for each in search)]
    names = list(names)
    outside: Path | None = None
    for candidate in _candidates(folder, names, allowed):
        resolved = _existing(candidate)
        if resolved is None:
            continue
        if any(resolved.is_relative_to(each) for each in allowed):
            return resolved
        outside = outside or resolved
    raise _not_found(told_by, names, outside)


def _candidates(folder: Path, names: list[str], allowed: list[Path]) -> Iterator[Path]:
    for name in names:
        windows = PureWindowsPath(name)
        if not windows.drive and not windows.root:
            yield folder.joinpath(*windows.parts)
        if windows.name:
            yield from (each / windows.name for each in allowed)


def _existing(candidate: Path) -> Path | None:
    try:
        resolved = candidate.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # missing, too long, a loop of links, an embedded NUL
        return None
    return resolved if resolved.is_file() else None


def _not_found(told_by: str, names: list[str], outside: Path | None) -> ParentNotFoundError:
    if outside:
        return ParentNotFoundError(
            f"{told_by}: its parent {outside} lies outside the folders that may be searched",
            hint=f"Allow it with --parent-dir {outside.parent}",
        )
    told = ", ".join(repr(name) for name in names) or "no name at all"
    return ParentNotFoundError(
        f"{told_by}: its parent was not found; the file names it {told}",
        hint="Put the parent beside it, or name the parent's folder with --parent-dir.",
    )


def identity(reader: FileReader) -> FileIdentity:
    status = os.fstat(reader.fileno())
    return status.st_dev, status.st_ino


def check_chain(told_by: str, parent: FileIdentity, children: Sequence[FileIdentity]) -> None:
    """Refuse a parent that is one of its own descendants, and chains deeper than any that are sane.

    Raises:
        CorruptInputError: the chain is a cycle or too deep.
    """
    if parent in children:
        raise CorruptInputError(f"{told_by}: the chain of parents is a cycle")
    if len(children) >= MAX_CHAIN_DEPTH:
        raise CorruptInputError(f"{told_by}: the chain of parents is deeper than {MAX_CHAIN_DEPTH}")
