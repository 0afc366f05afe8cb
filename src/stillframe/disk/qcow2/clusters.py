"""The two levels of tables: where each cluster of the disk is, and compressed clusters."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from stillframe.disk.qcow2.header import Header
from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.runs import runs
from stillframe.disk.still import ExtentKind
from stillframe.errors import CorruptInputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Entries = npt.NDArray[np.uint64]

_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED = 1 << 62
_ZERO = 1  # version 3 only: reads as zeros, whether or not space is kept for it
_CACHE_BYTES = 8 << 20
# A window larger than the largest cluster serves no honest image.
_BOUNDED: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 22}
_KINDS = (ExtentKind.UNMAPPED, ExtentKind.ZERO, ExtentKind.DATA)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the tables say of one cluster."""

    kind: ExtentKind
    host_offset_bytes: int = 0
    compressed_bytes: int = 0  # 0: stored as it is


class ClusterMap:
    """Looks clusters up; second-level tables are read as needed and a few are kept."""

    def __init__(self, reader: RandomReader, header: Header) -> None:
        self._reader = reader
        self._header = header
        stored = read_bytes(reader, header.l1_offset_bytes, 8 * header.l1_entries)
        self._l1: Entries = np.frombuffer(stored, dtype=">u8")
        tables = max(4, min(128, _CACHE_BYTES // header.cluster_bytes))
        self._l2 = lru_cache(tables)(self._read_l2)

    def cluster(self, number: int) -> Cluster:
        upper, lower = divmod(number, self._header.l2_entries)
        offset = int(self._l1[upper]) & _OFFSET
        if not offset:
            return Cluster(ExtentKind.UNMAPPED)
        return self._decoded(int(self._l2(offset)[lower]))

    def _decoded(self, entry: int) -> Cluster:
        if entry & _COMPRESSED:
            return self._decoded_compressed(entry)
        if entry & _ZERO:
            return self._zero_cluster()
        if not entry & _OFFSET:
            return Cluster(ExtentKind.UNMAPPED)
        offset = entry & _OFFSET
        if offset % self._header.cluster_bytes or offset >= self._reader.size_bytes:
            raise CorruptInputError(f"{self._reader.name}: a cluster lies at {offset}, not inside the file")
        return Cluster(ExtentKind.DATA, offset)

    def _zero_cluster(self) -> Cluster:
        if self._header.version < 3:
            raise CorruptInputError(f"{self._reader.name}: has a zero cluster, which version 2 does not know")
        return Cluster(ExtentKind.ZERO)

    def _decoded_compressed(self, entry: int) -> Cluster:
        offset_bits = 62 - (self._header.cluster_bits - 8)
        offset = entry & (1 << offset_bits) - 1
        sectors = (entry & _COMPRESSED - 1) >> offset_bits
        length = (sectors + 1) * 512 - offset % 512
        if offset >= self._reader.size_bytes:
            raise CorruptInputError(
                f"{self._reader.name}: a compressed cluster lies at {offset}, beyond the end"
            )
        return Cluster(ExtentKind.DATA, offset, min(length, self._reader.size_bytes - offset))

    def kinds(self) -> Iterator[tuple[int, int, ExtentKind]]:
        """``(first, end, kind)`` of runs of clusters, ascending; the last may go beyond the disk's end."""
        per_table = self._header.l2_entries
        for start, stop, mapped in runs((self._l1 & np.uint64(_OFFSET)) != 0):
            if not mapped:
                yield start * per_table, stop * per_table, ExtentKind.UNMAPPED
                continue
            for table in range(start, stop):
                base = table * per_table
                for first, end, kind in runs(self._kinds_of(self._l2(int(self._l1[table]) & _OFFSET))):
                    yield base + first, base + end, _KINDS[kind]

    def _kinds_of(self, entries: Entries) -> npt.NDArray[np.uint8]:
        """Index into ``_KINDS`` of each entry; one that reading refuses is data, so that it is read."""
        stored = (entries & np.uint64(_OFFSET)) != 0
        compressed = (entries & np.uint64(_COMPRESSED)) != 0
        flagged = (entries & np.uint64(_ZERO)) != 0
        zero = 1 if self._header.version >= 3 else 2
        return np.where(compressed, 2, np.where(flagged, zero, np.where(stored, 2, 0))).astype(np.uint8)

    def _read_l2(self, offset_bytes: int) -> Entries:
        length = self._header.cluster_bytes
        if offset_bytes % length or offset_bytes + length > self._reader.size_bytes:
            raise CorruptInputError(
                f"{self._reader.name}: a second-level table lies at {offset_bytes}, not inside the file"
            )
        return np.frombuffer(read_bytes(self._reader, offset_bytes, length), dtype=">u8")

    def decompressed(self, cluster: Cluster) -> bytes:
        """The whole contents of a compressed cluster.

        Raises:
            CorruptInputError: the data does not decompress to a cluster.
        """
        stored = read_bytes(self._reader, cluster.host_offset_bytes, cluster.compressed_bytes)
        length = self._header.cluster_bytes
        # The stored length is in whole sectors, so other data may follow the compressed stream.
        try:
            if self._header.zstandard:
                data = zstd.ZstdDecompressor(options=_BOUNDED).decompress(stored, max_length=length)
            else:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, length)
        except (zlib.error, zstd.ZstdError) as error:
            data = b""
            reason = f": {error}"
        else:
            reason = ""
        if len(data) != length:
            place = f"the compressed cluster at {cluster.host_offset_bytes}"
            raise CorruptInputError(f"{self._reader.name}: {place} is damaged{reason}")
        return data
