"""One overlay shown as a file by FUSE, for programs that can only open files: QEMU and loop devices."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from stillframe.errors import StillframeError, UnsupportedError
from stillframe.recovery.filesystems.libyal import load_library
from stillframe.recovery.overlay import Overlay, OverlayFullError

_FILE: Final = "volume.raw"
_START_TIMEOUT_S: Final = 20
_STOP_TIMEOUT_S: Final = 20


@contextmanager
def view_of(overlay: Overlay) -> Iterator[Path]:
    """The path of a file with the overlay's contents, which may be written, while the block runs.

    Raises:
        UnsupportedError: this machine has no FUSE, or may not use it.
    """
    require_fuse()
    library = load_library("mfusepy", extra="mount")
    with tempfile.TemporaryDirectory(prefix="stillframe-view-") as folder:
        server = _Server(library, overlay, Path(folder))
        server.start()
        try:
            yield Path(folder) / _FILE
        finally:
            server.stop()


def require_fuse() -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise UnsupportedError(
            "this machine offers no FUSE (/dev/fuse cannot be opened)",
            hint="Load the fuse module and install the package fuse3.",
        )


def unmount(folder: Path) -> None:
    """Take a FUSE mount away, also one that is still in use; harmless where there is none."""
    command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    subprocess.run([*command, str(folder)], check=False, capture_output=True)


class _Server:
    """libfuse's loop in a thread of its own."""

    def __init__(self, library: Any, overlay: Overlay, folder: Path) -> None:
        self._library = library
        self._folder = folder
        self._operations = _operations(library, overlay)
        self._failure: RuntimeError | None = None
        self._thread = threading.Thread(target=self._serve, name="stillframe-view", daemon=True)

    def start(self) -> None:
        _keep_our_signal_handlers()
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not (self._folder / _FILE).exists():
            if not self._thread.is_alive() or time.monotonic() > deadline:
                unmount(self._folder)
                raise UnsupportedError(
                    f"FUSE cannot show a disk here: {self._failure or 'it does not start'}"
                )
            time.sleep(0.01)

    def stop(self) -> None:
        unmount(self._folder)
        self._thread.join(_STOP_TIMEOUT_S)

    def _serve(self) -> None:
        try:
            self._library.FUSE(
                self._operations,
                str(self._folder),
                foreground=True,
                fsname="stillframe",
                nosuid=True,
                nodev=True,
            )
        except RuntimeError as error:
            self._failure = error


def _keep_our_signal_handlers() -> None:
    """libfuse takes over SIGTERM where nobody handles it; then the view would end and the program go on."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit_in_order)


def _exit_in_order(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


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
