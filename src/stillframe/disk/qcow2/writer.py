"""Writing qcow2: a sparse raw file beside the target, turned into qcow2 by qemu-img at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from stillframe.disk.ranges import check_range
from stillframe.disk.staged import CannotWriteError, StagedFile, publish, temporary_beside, writing
from stillframe.disk.still import Extent, Geometry
from stillframe.errors import UnsupportedError, UsageError

_CLUSTER_SIZES = [1 << bits for bits in range(9, 22)]


class Qcow2Target:
    """A new qcow2 image; see ``DiskTarget``. Needs room for the data twice until it is finished."""

    def __init__(self, path: Path, geometry: Geometry, *, cluster_bytes: int | None = None) -> None:
        """Begin the image.

        Raises:
            UnsupportedError: there is no qemu-img here.
            UsageError: ``path`` exists, or qcow2 knows no clusters of this size.
            CannotWriteError: it cannot be made.
        """
        program = shutil.which("qemu-img")
        if not program:
            hint = "Install it (Debian: qemu-utils), or choose another format."
            raise UnsupportedError("qcow2 is written by qemu-img, which is not installed", hint=hint)
        if cluster_bytes is not None and cluster_bytes not in [1 << bits for bits in range(9, 22)]:
            raise UsageError(
                f"qcow2 clusters are a power of two from 512 bytes to 2 MiB, not {cluster_bytes}"
            )
        self._program = program
        self._geometry = geometry
        self._cluster_bytes = cluster_bytes
        self._raw = StagedFile(path)
        self._image = temporary_beside(path)
        try:
            self._raw.resize(geometry.size_bytes)
        except CannotWriteError:
            self._raw.discard()
            raise

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None:
        check_range(self._geometry, offset_bytes, len(data))
        self._raw.write(offset_bytes, data)

    def zero(self, extent: Extent) -> None:
        check_range(self._geometry, extent.offset_bytes, extent.length_bytes)  # a new file is zero

    def finish(self) -> None:
        self._convert()
        path = self._raw.path
        self._raw.discard()
        with writing(path):
            _sync(self._image)
            publish(self._image, path)

    def abort(self) -> None:
        self._raw.discard()
        self._image.unlink(missing_ok=True)

    def _convert(self) -> None:
        command = [self._program, "convert", "-f", "raw", "-O", "qcow2"]
        if self._cluster_bytes:
            command += ["-o", f"cluster_size={self._cluster_bytes}"]
        # "file:" keeps a folder's name with a colon in it from being taken for a protocol.
        command += ["--", f"file:{self._raw.temporary}", f"file:{self._image}"]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode:
            raise CannotWriteError(f"{self._raw.path}: qemu-img failed: {result.stderr.strip()}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
