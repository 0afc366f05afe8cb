"""A standalone qcow2 image as a still disk."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from stillframe.disk.facts import FormatFacts
from stillframe.disk.qcow2.clusters import Cluster, ClusterMap
from stillframe.disk.qcow2.header import Header, Incompatible, read_header
from stillframe.disk.ranges import Untracked, check_range, fill_zeros
from stillframe.disk.reader import RandomReader
from stillframe.disk.still import Extent, ExtentKind, Geometry

_SECTOR_BYTES = 512
_CACHED_CLUSTERS = 4  # decompressed ones; at most 2 MiB each


def open_qcow2(reader: RandomReader, *, path: Path | None) -> Qcow2Disk:
    """Open an image. The disk owns ``reader`` from here on; after an error the caller still does.

    Raises:
        CorruptInputError: the image breaks the format's rules.
        UnsupportedError: it needs another file, a key, or a feature that is not known here.
    """
    return Qcow2Disk(reader, read_header(reader), path)


class Qcow2Disk(Untracked):
    """The active state of an image; its internal snapshots are left alone."""

    def __init__(self, reader: RandomReader, header: Header, path: Path | None) -> None:
        self._reader = reader
        self._header = header
        self._disk_id = str(path.resolve()) if path else reader.name
        self._geometry = Geometry(-(-header.size_bytes // _SECTOR_BYTES) * _SECTOR_BYTES)
        self._clusters = ClusterMap(reader, header)
        self._decompressed = lru_cache(_CACHED_CLUSTERS)(self._clusters.decompressed)

    @property
    def disk_id(self) -> str:
        return self._disk_id

    @property
    def geometry(self) -> Geometry:
        return self._geometry

    @property
    def facts(self) -> FormatFacts:
        notes = []
        if self._header.features & Incompatible.CORRUPT:
            notes.append("QEMU has marked the image as corrupt")
        if self._header.snapshots:
            notes.append(f"has {self._header.snapshots} internal snapshots, which are not read")
        return FormatFacts("qcow2", "dynamic", block_bytes=self._header.cluster_bytes, notes=tuple(notes))

    def close(self) -> None:
        self._reader.close()

    def extents(self) -> Iterator[Extent]:
        size_bytes, cluster_bytes = self._geometry.size_bytes, self._header.cluster_bytes
        covered = 0
        for first, end, kind in self._clusters.kinds():
            start, covered = first * cluster_bytes, min(end * cluster_bytes, size_bytes)
            if start >= size_bytes:
                return
            yield Extent(start, covered - start, kind)

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        check_range(self._geometry, offset_bytes, len(buffer))
        for cluster, within, start, length in self._pieces(offset_bytes, len(buffer)):
            self._read_piece(cluster, within, buffer[start : start + length])

    def _read_piece(self, cluster: Cluster, within: int, buffer: memoryview) -> None:
        if cluster.kind is not ExtentKind.DATA:
            fill_zeros(buffer)
        elif cluster.compressed_bytes:
            buffer[:] = self._decompressed(cluster)[within : within + len(buffer)]
        else:
            # The last cluster of the file may be cut short; what is missing was never written.
            start = cluster.host_offset_bytes + within
            present = max(0, min(len(buffer), self._reader.size_bytes - start))
            self._reader.read_into(start, buffer[:present])
            fill_zeros(buffer[present:])

    def _pieces(self, offset_bytes: int, length_bytes: int) -> Iterator[tuple[Cluster, int, int, int]]:
        """The range as clusters, neighbours joined: cluster, offset in it, offset in the range, length."""
        pending: tuple[Cluster, int, int, int] | None = None
        start = 0
        while start < length_bytes:
            number, within = divmod(offset_bytes + start, self._header.cluster_bytes)
            length = min(self._header.cluster_bytes - within, length_bytes - start)
            cluster = self._clusters.cluster(number)
            if pending and _follows(cluster, pending[0], pending[1] + pending[3]):
                pending = (*pending[:3], pending[3] + length)
            else:
                if pending:
                    yield pending
                pending = (cluster, within, start, length)
            start += length
        if pending:
            yield pending


def _follows(cluster: Cluster, pending: Cluster, end_bytes: int) -> bool:
    """Whether a cluster can be read in one go with the pending piece, which ends at ``end_bytes``."""
    if cluster.kind is not pending.kind or cluster.compressed_bytes or pending.compressed_bytes:
        return False
    return (
        cluster.kind is not ExtentKind.DATA
        or pending.host_offset_bytes + end_bytes == cluster.host_offset_bytes
    )
