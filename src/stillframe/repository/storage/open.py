"""From what a user writes after ``--repo`` to the storage that it means."""

from __future__ import annotations

import os
import re
from pathlib import Path

from stillframe.errors import UnsupportedError, UsageError
from stillframe.repository.storage.base import Storage, StorageError
from stillframe.repository.storage.failures import storage_failure
from stillframe.repository.storage.files import SystemFiles
from stillframe.repository.storage.local import LocalStorage

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_storage(url: str, *, create: bool = False) -> Storage:
    """The storage at a path or ``file://`` URL; ``create`` makes it if it is not there.

    Raises:
        UnsupportedError: a scheme that this program does not know.
        UsageError: no path, or a folder that holds other things.
        StorageError: nothing there, or no answer.
    """
    path = _local_path(url)
    try:
        if create:
            _make_durably(path)
        files = SystemFiles(path)
    except FileNotFoundError as error:
        hint = "Is its file system mounted? A new repository is made by `repo init`."
        raise StorageError(f"{path}: there is no such folder", hint=hint) from error
    except OSError as error:
        raise storage_failure(str(path), "open the folder", error) from error
    try:
        return LocalStorage(files, str(path), create=create)
    except BaseException:
        files.release()
        raise


def _local_path(url: str) -> Path:
    scheme = _URL.match(url)
    if scheme is None:
        return _absolute(url, url)
    if scheme[1].lower() != "file":
        raise UnsupportedError(
            f"{url}: repositories on {scheme[1]}:// are not supported",
            hint="Give the path of a folder, or a file:// URL.",
        )
    from urllib.parse import unquote, urlsplit  # most repositories are given as paths

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url}: a file:// URL names no other host", hint="Write file:///path/to/folder.")
    return _absolute(unquote(parts.path), url)


def _absolute(path: str, url: str) -> Path:
    """Absolute, so that the storage stays the same one when the program changes its folder."""
    if not path or "\0" in path:
        raise UsageError(f"{url!r} names no repository", hint="Give the path of a folder, or a file:// URL.")
    return Path(path).absolute()


def _make_durably(path: Path) -> None:
    """Make a folder, and those above it, each durable in the one above."""
    if path.is_dir():
        return
    _make_durably(path.parent)
    path.mkdir(mode=0o770, exist_ok=True)
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(above)
    finally:
        os.close(above)
