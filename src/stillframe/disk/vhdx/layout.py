"""Where things lie in a VHDX file, the bounds that we set, and the checksum that its structures share.

Facts: [MS-VHDX] 2.1 (layout) and 2.2 (header section).
"""

from __future__ import annotations

from google_crc32c import value as _crc32c

KIB = 1 << 10
MIB = 1 << 20
TIB = 1 << 40

HEADER_OFFSETS = (64 * KIB, 128 * KIB)
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
FIRST_LOGGED_BYTES = 192 * KIB  # identifier and headers, below, are not covered by the log
FIRST_FREE_BYTES = MIB  # log, regions and blocks lie above, each on a whole MiB

MAX_FILE_BYTES = 128 * TIB  # ours: twice the largest disk leaves room for any amount of abandoned blocks

CHECKSUM = slice(4, 8)  # in every structure that has one


def checksum(structure: bytes) -> int:
    """CRC-32C over the structure, its own checksum field taken as zero."""
    return int(_crc32c(structure[: CHECKSUM.start] + bytes(4) + structure[CHECKSUM.stop :]))


def checksum_holds(structure: bytes) -> bool:
    return int.from_bytes(structure[CHECKSUM], "little") == checksum(structure)


def sealed(structure: bytes) -> bytes:
    """The structure with its checksum filled in."""
    value = checksum(structure).to_bytes(4, "little")
    return structure[: CHECKSUM.start] + value + structure[CHECKSUM.stop :]


def round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
