"""Files that appear whole or not at all: a temporary name, then fsync, then the final name.

A crash leaves at most a hidden ``.stillframe-*.partial`` beside the target, never a half-made disk under
the name that somebody asked for.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOSPC
from pathlib import Path

from stillframe.disk.write_behind import WriteBehind
from stillframe.errors import StillframeError, UsageError


class CannotWriteError(StillframeError):
    """A target cannot be written: no space, no permission, a failing device."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's errors within the block into one that names the target."""
    try:
        yield
    except OSError as error:
        hint = "Free some space, or choose another place." if error.errno == ENOSPC else ""
        raise CannotWriteError(f"{path}: cannot be written: {error.strerror}", hint=hint) from error


def temporary_beside(path: Path) -> Path:
    """A new hidden name in the folder of ``path``."""
    return path.parent / f".stillframe-{secrets.token_hex(8)}.partial"


def write_all(descriptor: int, offset_bytes: int, data: memoryview | bytes) -> None:
    """Write the whole of ``data`` at an offset; safe from several threads on one descriptor."""
    view = memoryview(data).cast("B")
    while view:
        count = os.pwrite(descriptor, view, offset_bytes)
        view, offset_bytes = view[count:], offset_bytes + count


class StagedFile:
    """A file under a temporary name until ``publish``."""

    def __init__(self, path: Path) -> None:
        """Begin a file that is to be called ``path``.

        Raises:
            UsageError: ``path`` exists already; nothing is ever overwritten.
            CannotWriteError: its folder cannot be written to.
        """
        if os.path.lexists(path):
            raise UsageError(f"{path}: exists already")
        self.path = path
        self.temporary = temporary_beside(path)
        with writing(path):
            self.descriptor = os.open(
                self.temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
            )
        self._write_behind = WriteBehind(self.descriptor)

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None:
        with writing(self.path):
            write_all(self.descriptor, offset_bytes, data)
        self._write_behind.wrote(len(data))

    def resize(self, size_bytes: int) -> None:
        with writing(self.path):
            os.ftruncate(self.descriptor, size_bytes)

    def publish(self) -> None:
        """Make the contents durable, then give them their name; also the name is durable on return."""
        with writing(self.path):
            os.fsync(self.descriptor)
            self._close()
            publish(self.temporary, self.path)

    def discard(self) -> None:
        """Remove what was made; harmless after ``publish``."""
        if self.descriptor >= 0:
            self._close()
            self.temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        os.close(self.descriptor)
        self.descriptor = -1


def publish(temporary: Path, path: Path) -> None:
    """Rename without overwriting, and make the new name durable."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        temporary.unlink()
        raise
    except OSError:
        _claim_and_rename(temporary, path)
    else:
        temporary.unlink()
    sync_folder(path.parent)


def _claim_and_rename(temporary: Path, path: Path) -> None:
    """For file systems without hard links (FAT, exFAT, some shares): only the claimant may rename."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except FileExistsError:
        temporary.unlink()
        raise
    try:
        os.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
