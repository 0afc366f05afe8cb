"""Writing below one folder and nowhere else, whatever the names say.

Every name is a single component that is created or opened relative to a descriptor of its directory, and no
link is ever followed, so neither ``..`` nor an absolute name nor a link that a backup (or somebody else on
this machine) put in the way leads out of the folder.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from stillframe.errors import StillframeError

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}  # FAT, some network shares


class RefusedNameError(StillframeError):
    """A name from a disk cannot be the name of a file here."""


def require_component(name: str) -> str:
    """A name that stays in its directory.

    Raises:
        RefusedNameError: it is empty, ``.`` or ``..``, holds a slash or NUL, or cannot be encoded.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise RefusedNameError(f"{name!r}: would leave its folder, or is no name; not restored")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise RefusedNameError(f"{name!r}: cannot be written as a name on this machine") from error
    return name


@contextmanager
def target_folder(path: Path, *, create: bool) -> Iterator[int]:
    """A descriptor of the folder to restore to; made with mode 0700 where it does not exist."""
    if create:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def subfolder(folder: int, components: Sequence[str]) -> Iterator[int]:
    """A descriptor of an existing folder below another, reached without following any link."""
    current = os.dup(folder)
    try:
        for component in components:
            following = os.open(require_component(component), _DIRECTORY, dir_fd=current)
            os.close(current)
            current = following
        yield current
    finally:
        os.close(current)


def exists(folder: int, name: str) -> bool:
    with suppress(FileNotFoundError):
        os.lstat(require_component(name), dir_fd=folder)
        return True
    return False


def make_folder(folder: int, name: str, *, replace: bool) -> None:
    """Make a folder; with ``replace`` one that is there is kept, and anything else in its place goes."""
    require_component(name)
    try:
        os.mkdir(name, mode=0o700, dir_fd=folder)
    except FileExistsError:
        if not replace:
            raise
        with suppress(NotADirectoryError, OSError):
            os.close(os.open(name, _DIRECTORY, dir_fd=folder))
            return
        os.unlink(name, dir_fd=folder)
        os.mkdir(name, mode=0o700, dir_fd=folder)


@contextmanager
def new_file(folder: int, name: str, *, replace: bool) -> Iterator[int]:
    """A descriptor to write a file with, which gets its name at the end of the block, or never on an error.

    Raises:
        FileExistsError: the name is taken, and ``replace`` is not set.
    """
    if not replace and exists(folder, name):
        raise _taken(name)
    draft = f".stillframe-{secrets.token_hex(8)}"
    descriptor = os.open(draft, _NEW_FILE, mode=0o600, dir_fd=folder)
    try:
        yield descriptor
        _publish(folder, draft, require_component(name), replace=replace)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)


def make_room(folder: int, name: str, *, replace: bool) -> None:
    """Remove what has a name (save a folder), where that is allowed; FileExistsError where it is not."""
    if exists(folder, name):
        if not replace:
            raise _taken(name)
        os.unlink(name, dir_fd=folder)


def _publish(folder: int, draft: str, name: str, *, replace: bool) -> None:
    if replace:
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(draft, dir_fd=folder)


def _taken(name: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
