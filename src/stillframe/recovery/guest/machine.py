"""Starts the guest, talks to it over a virtio serial port, and ends it whatever happens."""

from __future__ import annotations

import secrets
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Final

from stillframe.errors import StillframeError
from stillframe.recovery.guest import initramfs
from stillframe.recovery.guest.tools import GuestTools

_MEMORY_MIB: Final = 768
_BOOT_TIMEOUT_S: Final = 180  # software emulation on a busy machine; 3 s on an idle one
_ANSWER_TIMEOUT_S: Final = 600
_STOP_TIMEOUT_S: Final = 10
_CONSOLE_LINES: Final = 40
_MAX_HEADER_BYTES: Final = 64
MAX_ANSWER_BYTES: Final = 256 << 20


class GuestError(StillframeError):
    """The guest did not start, does not answer, or answers nonsense."""


class GuestRefusedError(StillframeError):
    """The guest did what it was asked and it failed; the message is the guest's."""


@contextmanager
def running_guest(volume: Path, file_system: str, tools: GuestTools) -> Iterator[Guest]:
    """A booted guest that sees one file as its only disk.

    Raises:
        GuestError: it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="stillframe-guest-") as folder:
        mark = secrets.token_hex(16)
        initrd = Path(folder) / "initrd"
        initrd.write_bytes(initramfs.build(tools.busybox, tools.modules, file_system))
        port = Path(folder) / "port"
        command = _command(tools, volume, initrd, port, mark)
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                with closing(Guest(process, port, mark)) as guest:
                    yield guest
            finally:
                _end(process)


class Guest:
    """One guest's connection. One request at a time; safe for threads."""

    def __init__(self, process: subprocess.Popen[bytes], port: Path, mark: str) -> None:
        self.mark = mark
        self._process = process
        self._console = _Console(process.stdout)
        self._lock = threading.Lock()
        self._socket = self._connect(port)
        try:
            self._answer(_BOOT_TIMEOUT_S)
        except GuestError:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def request(self, *words: str) -> bytes:
        """Ask, and give the whole answer.

        Raises:
            GuestRefusedError: the guest says that it failed.
            GuestError: no proper answer came; the guest is of no more use.
        """
        with self._lock:
            try:
                self._socket.sendall(" ".join(words).encode("ascii") + b"\n")
            except OSError as error:
                raise self._broken(f"it is gone: {error.strerror}") from error
            accepted, data = self._answer(_ANSWER_TIMEOUT_S)
        if not accepted:
            raise GuestRefusedError(
                data[-2000:].decode("utf-8", "replace").strip() or "the guest gives no reason"
            )
        return data

    def _connect(self, port: Path) -> socket.socket:
        deadline = time.monotonic() + _BOOT_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(port))
            except OSError:
                connection.close()
                time.sleep(0.01)
            else:
                return connection
        raise self._broken("the emulator does not start")

    def _answer(self, timeout_s: float) -> tuple[bool, bytes]:
        self._socket.settimeout(timeout_s)
        try:
            header = bytearray()
            while not header.endswith(b"\n") and len(header) < _MAX_HEADER_BYTES:
                header += self._receive(1)
            status, _, size = bytes(header).strip().partition(b" ")
            if status not in {b"OK", b"NO"} or not size.isdigit() or int(size) > MAX_ANSWER_BYTES:
                raise self._broken(f"it answers {bytes(header)!r}")
            return status == b"OK", self._receive(int(size))
        except OSError as error:
            raise self._broken(f"it does not answer: {error}") from error

    def _receive(self, length_bytes: int) -> bytes:
        buffer = bytearray(length_bytes)
        view, done = memoryview(buffer), 0
        while done < length_bytes:
            count = self._socket.recv_into(view[done:])
            if count == 0:
                raise self._broken("it ended")
            done += count
        return bytes(buffer)

    def _broken(self, reason: str) -> GuestError:
        tail = self._console.tail()
        return GuestError(
            f"the guest failed: {reason}" + (f"; its console ends with: {tail}" if tail else "")
        )


class _Console:
    """Keeps the last lines of the console, so that an endless one costs nothing."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._lines: deque[str] = deque(maxlen=_CONSOLE_LINES)
        if pipe is not None:
            threading.Thread(target=self._drain, args=(pipe,), name="stillframe-console", daemon=True).start()

    def tail(self) -> str:
        return " | ".join(list(self._lines)[-4:])

    def _drain(self, pipe: IO[bytes]) -> None:
        while line := pipe.readline(1000):
            if text := line.decode("utf-8", "replace").strip():
                self._lines.append(text)


def _command(tools: GuestTools, volume: Path, initrd: Path, port: Path, mark: str) -> list[str]:
    """Emulated in software on purpose: no guest code, and no file system of a guest, meets this kernel."""
    drive = f"driver=raw,node-name=volume,file.driver=file,file.locking=off,file.filename={_escaped(volume)}"
    return [
        *(str(tools.emulator), "-accel", "tcg", "-machine", "q35", "-cpu", "max", "-m", str(_MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
        *("-kernel", str(tools.kernel), "-initrd", str(initrd)),
        *("-append", f"console=ttyS0 quiet panic=-1 stillframe.mark={mark}"),
        *("-blockdev", drive, "-device", "virtio-blk-pci,drive=volume"),
        *(
            "-device",
            "virtio-serial-pci",
            "-chardev",
            f"socket,id=port,path={_escaped(port)},server=on,wait=on",
        ),
        *("-device", "virtserialport,chardev=port,name=stillframe"),
    ]


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")  # QEMU's options are separated by commas


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing in the guest is worth keeping but what it was asked to write and sync."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
