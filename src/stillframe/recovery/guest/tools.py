"""What a guest is made of: an emulator, a kernel with its modules, and a static busybox.

They are looked for on this machine first; on Debian and its relatives a kernel is fetched from the configured
package sources, unpacked (not installed) into a cache folder, and used from there from then on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from stillframe.errors import UnsupportedError

_EMULATOR: Final = "qemu-system-x86_64"
_KERNEL_PACKAGE: Final = "linux-image-cloud-amd64"
_BUSYBOX_PACKAGE: Final = "busybox-static"
_FETCH_TIMEOUT_S: Final = 600


@dataclass(frozen=True, slots=True)
class GuestTools:
    emulator: Path
    kernel: Path
    modules: Path
    busybox: Path


def find_tools() -> GuestTools:
    """Everything a guest needs; fetches a kernel at the first use.

    Raises:
        UnsupportedError: something is missing and cannot be had; says what to install.
    """
    emulator = shutil.which(_EMULATOR)
    if emulator is None:
        raise UnsupportedError(
            f"reading this through a guest needs {_EMULATOR}, which is not installed",
            hint="Install it (Debian: apt-get install qemu-system-x86 busybox-static), or use --host-kernel.",
        )
    kernel, modules = _kernel()
    return GuestTools(Path(emulator), kernel, modules, _busybox())


def cache_folder() -> Path:
    return platformdirs.user_cache_path("stillframe") / "guest"


def _kernel() -> tuple[Path, Path]:
    configured = os.environ.get("STILLFRAME_GUEST_KERNEL")
    if configured:
        return _matched(Path(configured), Path("/lib/modules"))
    root = cache_folder() / "kernel"
    if not root.is_dir():
        _fetch(_KERNEL_PACKAGE, root)
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise UnsupportedError(f"{root}: holds no kernel", hint="Remove the folder; it is fetched anew.")
    return _matched(kernels[-1], root / "lib" / "modules")


def _matched(kernel: Path, modules: Path) -> tuple[Path, Path]:
    """A kernel with the modules of its version."""
    own = modules / kernel.name.removeprefix("vmlinuz-")
    if not kernel.is_file() or not own.is_dir():
        raise UnsupportedError(f"the guest's kernel {kernel} or its modules {own} are missing")
    return kernel, own


def _busybox() -> Path:
    installed = shutil.which("busybox")
    if installed and _is_static(Path(installed)):
        return Path(installed)
    root = cache_folder() / "busybox"
    if not root.is_dir():
        _fetch(_BUSYBOX_PACKAGE, root)
    return root / "bin" / "busybox"


def _is_static(program: Path) -> bool:
    """A dynamic program names its loader."""
    return b"/ld-linux" not in program.read_bytes()


def _fetch(package: str, root: Path) -> None:
    """Download a package and unpack it to ``root``, which appears whole or not at all."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix="fetch-") as scratch:
        os.chmod(scratch, 0o755)  # noqa: S103 - APT fetches as a user of its own
        _run(["apt-get", "download", _real_package(package)], package, scratch)
        (archive,) = Path(scratch).glob("*.deb")
        _run(["dpkg-deb", "-x", archive.name, "unpacked"], package, scratch)
        try:
            os.rename(Path(scratch) / "unpacked", root)
        except FileExistsError:
            return  # another process was faster


def _real_package(package: str) -> str:
    """A package that only points at the current version, as kernels have, gives the one it points at."""
    output = _run(["apt-cache", "depends", "--important", package], package, ".")
    depends = [line.split(":", 1)[1].strip() for line in output.splitlines() if "Depends:" in line]
    images = [name for name in depends if name.startswith("linux-image-")]
    return images[0] if images else package


def _run(command: list[str], package: str, folder: str) -> str:
    hint = f"Install {package} (or put its kernel's path into STILLFRAME_GUEST_KERNEL), or use --host-kernel."
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnsupportedError(f"{package} for the guest cannot be fetched: {error}", hint=hint) from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise UnsupportedError(f"{package} for the guest cannot be fetched: {reason[0]}", hint=hint)
    return done.stdout
