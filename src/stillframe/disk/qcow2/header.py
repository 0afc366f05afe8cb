"""The header: size, cluster size, the first-level table, and the features a reader must know."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.still import MAX_DISK_BYTES
from stillframe.errors import CorruptInputError, UnsupportedError

MAGIC = b"QFI\xfb"
MAX_L1_BYTES = 8 << 20  # 64 TiB in clusters of 32 KiB or more; QEMU allows 32 MiB

_V2 = struct.Struct(">4s I Q I I Q I I Q Q I I Q")
_V3 = struct.Struct(">Q Q Q I I")
_CLUSTER_BITS = range(9, 22)  # 512 bytes to 2 MiB, as QEMU has it


class Incompatible(IntFlag):
    """Features that a reader must know to read the image rightly."""

    DIRTY = 1  # reference counts may be wrong: of no concern to a reader
    CORRUPT = 2
    EXTERNAL_DATA_FILE = 4
    COMPRESSION_TYPE = 8
    EXTENDED_L2 = 16


@dataclass(frozen=True, slots=True)
class Header:
    """The fields that a reader needs."""

    size_bytes: int
    cluster_bits: int
    l1_offset_bytes: int
    l1_entries: int  # as many as the size needs
    features: Incompatible
    zstandard: bool
    snapshots: int
    version: int

    @property
    def cluster_bytes(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_entries(self) -> int:
        """Clusters that one second-level table maps: it is one cluster of 8-byte entries."""
        return self.cluster_bytes // 8


def read_header(reader: RandomReader) -> Header:
    """Parse and check the header.

    Raises:
        CorruptInputError: a field breaks the rules.
        UnsupportedError: the image needs another file (which is never opened), a key, or an unknown feature.
    """
    if reader.size_bytes < _V2.size:
        raise CorruptInputError(f"{reader.name}: is too short for a qcow2 header")
    fields = _V2.unpack(read_bytes(reader, 0, _V2.size))
    magic, version, backing, _, cluster_bits, size_bytes, encryption, l1_entries, l1_offset, *rest = fields
    if magic != MAGIC:
        raise CorruptInputError(f"{reader.name}: does not begin with the magic of qcow2")
    if version not in (2, 3):
        raise UnsupportedError(f"{reader.name}: is qcow version {version}; only 2 and 3 are known")
    features, compression = _extension(reader) if version == 3 else (Incompatible(0), 0)
    _refuse_unsupported(reader.name, backing, encryption, features, compression)
    if cluster_bits not in _CLUSTER_BITS:
        raise CorruptInputError(f"{reader.name}: has clusters of 2^{cluster_bits} bytes, not of 2^9 to 2^21")
    if not 0 < size_bytes <= MAX_DISK_BYTES:
        raise CorruptInputError(f"{reader.name}: gives the disk {size_bytes} bytes, not 1 to 64 TiB")
    header = Header(
        size_bytes=size_bytes,
        cluster_bits=cluster_bits,
        l1_offset_bytes=l1_offset,
        l1_entries=-(-size_bytes // (1 << 2 * cluster_bits - 3)),
        features=features,
        zstandard=compression == 1,
        snapshots=rest[2],
        version=version,
    )
    _check_l1(reader, header, l1_entries)
    return header


def _extension(reader: RandomReader) -> tuple[Incompatible, int]:
    """The incompatible features and the compression type of a version 3 header."""
    if reader.size_bytes < _V2.size + _V3.size + 1:
        raise CorruptInputError(f"{reader.name}: is too short for a qcow2 header")
    incompatible, _, _, _, length = _V3.unpack(read_bytes(reader, _V2.size, _V3.size))
    unknown = incompatible & ~sum(Incompatible)
    if unknown:
        raise UnsupportedError(f"{reader.name}: needs unknown features of qcow2 (bits {unknown:#x})")
    compression = read_bytes(reader, _V2.size + _V3.size, 1)[0] if length > _V2.size + _V3.size else 0
    return Incompatible(incompatible), compression


def _refuse_unsupported(
    name: str, backing: int, encryption: int, features: Incompatible, compression: int
) -> None:
    standalone = "Make a standalone image with: qemu-img convert -O qcow2"
    if backing:
        raise UnsupportedError(f"{name}: has a backing file, which is not opened", hint=standalone)
    if features & Incompatible.EXTERNAL_DATA_FILE:
        raise UnsupportedError(f"{name}: keeps its data in a file that is not opened", hint=standalone)
    if features & Incompatible.EXTENDED_L2:
        raise UnsupportedError(f"{name}: uses subclusters (extended_l2)", hint=standalone)
    if encryption:
        raise UnsupportedError(f"{name}: is encrypted")
    if compression > 1:
        raise UnsupportedError(f"{name}: is compressed by an unknown method ({compression})")


def _check_l1(reader: RandomReader, header: Header, l1_entries: int) -> None:
    where = f"{reader.name}: first-level table at {header.l1_offset_bytes}"
    if header.l1_entries * 8 > MAX_L1_BYTES:
        raise UnsupportedError(f"{where}: would need {header.l1_entries} entries, more than are read here")
    if l1_entries < header.l1_entries:
        raise CorruptInputError(f"{where}: has {l1_entries} entries, but the disk needs {header.l1_entries}")
    end_bytes = header.l1_offset_bytes + 8 * header.l1_entries
    if header.l1_offset_bytes % header.cluster_bytes or end_bytes > reader.size_bytes:
        raise CorruptInputError(f"{where}: is not inside the file")
