"""Writing a fixed VHD: data, then the footer. Sparse on this side, whatever the name says."""

from __future__ import annotations

from pathlib import Path

from stillframe.disk.ranges import check_range
from stillframe.disk.staged import CannotWriteError, StagedFile
from stillframe.disk.still import Extent, Geometry
from stillframe.disk.vhd.footer import Footer


class FixedVhdTarget:
    """A new fixed VHD; see ``DiskTarget``."""

    def __init__(self, path: Path, geometry: Geometry, footer: Footer) -> None:
        self._file = StagedFile(path)
        self._geometry = geometry
        self._footer = footer
        try:
            self._file.resize(geometry.size_bytes)
        except CannotWriteError:
            self.abort()
            raise

    def write(self, offset_bytes: int, data: memoryview | bytes) -> None:
        check_range(self._geometry, offset_bytes, len(data))
        self._file.write(offset_bytes, data)

    def zero(self, extent: Extent) -> None:
        check_range(self._geometry, extent.offset_bytes, extent.length_bytes)  # a new file is zero

    def finish(self) -> None:
        self._file.write(self._geometry.size_bytes, self._footer.pack())
        self._file.publish()

    def abort(self) -> None:
        self._file.discard()
