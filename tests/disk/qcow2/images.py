"""Small qcow2 images, built by hand."""

from __future__ import annotations

import struct
import zlib

CLUSTER_BITS = 12
CLUSTER = 1 << CLUSTER_BITS
SIZE = 40 * CLUSTER
L1_OFFSET = CLUSTER
L2_OFFSET = 2 * CLUSTER
COMPRESSED = 1 << 62


def header(**fields: int) -> bytes:
    """A version 3 header; by name whatever is to differ."""
    values = {
        "version": 3,
        "backing_offset": 0,
        "backing_length": 0,
        "cluster_bits": CLUSTER_BITS,
        "size": SIZE,
        "encryption": 0,
        "l1_entries": 1,
        "l1_offset": L1_OFFSET,
        "refcount_offset": 0,
        "refcount_clusters": 0,
        "snapshots": 0,
        "snapshots_offset": 0,
        "incompatible": 0,
        "compatible": 0,
        "autoclear": 0,
        "refcount_order": 4,
        "length": 112,
        "compression": 0,
        **fields,
    }
    return b"QFI\xfb" + struct.pack(">I Q I I Q I I Q Q I I Q Q Q Q I I B7x", *values.values())


def image(**fields: int) -> bytes:
    """Cluster 0 stored, 1 zero by flag, 2 compressed, the others unmapped; the file ends within a cluster."""
    compressor = zlib.compressobj(wbits=-12)
    packed = compressor.compress(b"z" * CLUSTER) + compressor.flush()
    stored, squeezed = 3 * CLUSTER, 4 * CLUSTER + 5
    table = [stored | 1 << 63, 1, COMPRESSED | squeezed]
    data = bytearray(header(**fields).ljust(CLUSTER, b"\0"))
    data += (L2_OFFSET | 1 << 63).to_bytes(8).ljust(CLUSTER, b"\0")
    data += b"".join(entry.to_bytes(8) for entry in table).ljust(CLUSTER, b"\0")
    data += b"s" * CLUSTER + b"\xff" * 5 + packed + b"junk"
    return bytes(data)


CONTENTS = b"s" * CLUSTER + bytes(CLUSTER) + b"z" * CLUSTER + bytes(37 * CLUSTER)
