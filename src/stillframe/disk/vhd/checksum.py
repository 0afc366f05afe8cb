"""The checksum that footer and dynamic header share."""

from __future__ import annotations


def checksum(structure: bytes, field_offset: int) -> int:
    """One's complement of the sum of all bytes, the four of the checksum field itself counted as zero."""
    total = sum(structure) - sum(structure[field_offset : field_offset + 4])
    return ~total & 0xFFFF_FFFF
