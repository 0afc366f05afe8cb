"""One overlay shown as a file by FUSE, for programs that can only open files: QEMU and loop devices."""

from __future__ import annotations

import errno
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from stillframe.errors import StillframeError
from stillframe.recovery.fuse_server import load_fuse, serving
from stillframe.recovery.overlay import Overlay, OverlayFullError

_FILE: Final = "volume.raw"


@contextmanager
def view_of(overlay: Overlay) -> Iterator[Path]:
    """The path of a file with the overlay's contents, which may be written, while the block runs.

    Raises:
        UnsupportedError: this machine has no FUSE, or may not use it.
    """
    library = load_fuse()
    with (
        tempfile.TemporaryDirectory(prefix="stillframe-view-") as folder,
        serving(_operations(library, overlay), Path(folder)),
    ):
        yield Path(folder) / _FILE


def _operations(library: Any, overlay: Overlay) -> Any:
    """The callbacks of libfuse; the base class is only known once the library is loaded."""
    times = {"st_mtime": 0, "st_atime": 0, "st_ctime": 0}
    root = {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, **times}
    file = {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": overlay.size_bytes, **times}

    def getattr_(_self: Any, path: str, _handle: Any = None) -> dict[str, int]:
        if path == "/":
            return root
        if path == f"/{_FILE}":
            return file
        raise library.FuseOSError(errno.ENOENT)

    def read(_self: Any, _path: str, size: int, offset: int, _handle: Any) -> bytes:
        buffer = bytearray(max(0, min(size, overlay.size_bytes - offset)))
        with _as_os_error(library):
            overlay.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def write(_self: Any, _path: str, data: bytes, offset: int, _handle: Any) -> int:
        with _as_os_error(library):
            overlay.write(offset, data)
        return len(data)

    methods = {
        "use_ns": True,
        "getattr": getattr_,
        "read": read,
        "write": write,
        "readdir": lambda _self, _path, _handle: [".", "..", _FILE],
        "open": lambda _self, _path, _flags: 0,
        "flush": lambda _self, _path, _handle: 0,
        "fsync": lambda _self, _path, _data_only, _handle: 0,
    }
    return type("ViewOperations", (library.Operations,), methods)()


@contextmanager
def _as_os_error(library: Any) -> Iterator[None]:
    try:
        yield
    except OverlayFullError as error:
        raise library.FuseOSError(errno.ENOSPC) from error
    except StillframeError as error:
        raise library.FuseOSError(errno.EIO) from error
