"""Runs libfuse's loop in a thread, so that Python keeps the signals and the mount always goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from stillframe.errors import UnsupportedError
from stillframe.recovery.filesystems.libyal import load_library

_START_TIMEOUT_S: Final = 20
_STOP_TIMEOUT_S: Final = 20
_WAKE_UP_S: Final = 0.5
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def load_fuse() -> Any:
    """The binding to libfuse.

    Raises:
        UnsupportedError: the binding, libfuse or the kernel's half is missing.
    """
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise UnsupportedError(
            "this machine offers no FUSE (/dev/fuse cannot be opened)",
            hint="Load the fuse module and install the package fuse3.",
        )
    try:
        return load_library("mfusepy", extra="mount")
    except OSError as error:  # the binding is there, the C library is not
        raise UnsupportedError(f"libfuse: {error}", hint="Install the package fuse3.") from error


@contextmanager
def serving(operations: Any, folder: Path, **options: bool) -> Iterator[FuseServer]:
    """Mount on a folder while the block runs.

    Raises:
        UnsupportedError: the folder cannot be mounted on.
    """
    server = FuseServer(operations, folder, options)
    with _own_signals():
        try:
            server.start()
            yield server
        finally:
            server.stop()


class FuseServer:
    """One mount."""

    def __init__(self, operations: Any, folder: Path, options: dict[str, bool]) -> None:
        self._operations = operations
        self._folder = folder
        self._options = options
        self._failure: RuntimeError | None = None
        # An event and not the thread's own state: a signal that interrupts Thread.join makes CPython 3.11
        # take a running thread for an ended one.
        self._ended = threading.Event()

    def start(self) -> None:
        """Return once the mount is there."""
        threading.Thread(target=self._serve, name="stillframe-fuse", daemon=True).start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not os.path.ismount(self._folder):
            if self._ended.is_set() or time.monotonic() > deadline:
                raise UnsupportedError(
                    f"{self._folder}: FUSE cannot be mounted on it: {self._failure or 'no answer'}"
                )
            time.sleep(0.01)

    def wait(self) -> None:
        """Return once somebody unmounted the folder; signals are handled meanwhile."""
        while not self._ended.wait(_WAKE_UP_S):
            pass

    def stop(self) -> None:
        """Unmount; a mount that is only just coming is waited for and unmounted."""
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while not self._ended.is_set() and time.monotonic() < deadline:
            _unmount(self._folder)
            self._ended.wait(_WAKE_UP_S)

    def _serve(self) -> None:
        library = load_fuse()
        try:
            library.FUSE(
                self._operations,
                str(self._folder),
                foreground=True,
                fsname="stillframe",
                nosuid=True,
                nodev=True,
                **self._options,
            )
        except RuntimeError as error:
            self._failure = error
        finally:
            self._ended.set()


def _unmount(folder: Path) -> None:
    """Take a mount away, also one that is still in use."""
    command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    # In a session of its own, so that a signal to our process group does not end it half-way.
    subprocess.run([*command, str(folder)], check=False, capture_output=True, start_new_session=True)


@contextmanager
def _own_signals() -> Iterator[None]:
    """The first signal raises in the main thread and starts the clean-up; later ones must not disturb it.

    Without a handler of ours libfuse takes the signals over, and then ends whichever of its mounts came last.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _end_once) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_once(number: int, _frame: object) -> None:
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
