"""The parent locator: which disk a child was made from, and where it was then ([MS-VHDX] 2.6.2.6)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from stillframe.disk.vhdx.errors import LocatorError, UnsupportedVhdxError

VHDX_PARENT = UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")

LINKAGE = "parent_linkage"
LINKAGE2 = "parent_linkage2"
RELATIVE_PATH = "relative_path"
VOLUME_PATH = "volume_path"
ABSOLUTE_PATH = "absolute_win32_path"
_KNOWN_KEYS = (LINKAGE, LINKAGE2, RELATIVE_PATH, VOLUME_PATH, ABSOLUTE_PATH)

_HEADER = struct.Struct("<16s2xH")
_ENTRY = struct.Struct("<IIHH")
_MAX_PAIRS = 256


@dataclass(frozen=True, slots=True)
class ParentLocator:
    """``linkage`` holds the data write ids that the parent may have: two while it is being updated."""

    linkage: tuple[UUID, ...]
    relative_path: str | None = None
    volume_path: str | None = None
    absolute_path: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """What may be looked for, in order. A volume path means nothing on another host: never."""
        return tuple(path for path in (self.relative_path, self.absolute_path) if path)


def parse_locator(item: bytes, *, file: str, offset_bytes: int) -> ParentLocator:
    """Parse the metadata item; ``file`` and ``offset_bytes`` (of the region) are for messages.

    Raises:
        LocatorError: it is malformed or names no parent.
        UnsupportedVhdxError: the parent is of a kind other than VHDX.
    """
    try:
        pairs = _pairs(item, file)
        linkage = tuple(UUID(pairs[key]) for key in (LINKAGE, LINKAGE2) if key in pairs)
    except ValueError as error:
        raise LocatorError(file, offset_bytes, f"parent locator: {error}") from error
    if LINKAGE not in pairs:
        raise LocatorError(file, offset_bytes, f"parent locator: {LINKAGE!r} is missing")
    return ParentLocator(linkage, pairs.get(RELATIVE_PATH), pairs.get(VOLUME_PATH), pairs.get(ABSOLUTE_PATH))


def encode_locator(pairs: Mapping[str, str]) -> bytes:
    """The metadata item for the given keys and values."""
    entries, strings = b"", b""
    strings_offset = _HEADER.size + _ENTRY.size * len(pairs)
    for key, value in pairs.items():
        encoded = key.encode("utf-16-le"), value.encode("utf-16-le")
        key_offset = strings_offset + len(strings)
        lengths = len(encoded[0]), len(encoded[1])
        entries += _ENTRY.pack(key_offset, key_offset + lengths[0], *lengths)
        strings += encoded[0] + encoded[1]
    return _HEADER.pack(VHDX_PARENT.bytes_le, len(pairs)) + entries + strings


def linkage_text(data_write_id: UUID) -> str:
    return f"{{{data_write_id}}}"


def _pairs(item: bytes, file: str) -> dict[str, str]:
    """The keys that we know with their values. Raises ValueError with what is wrong."""
    if len(item) < _HEADER.size:
        raise ValueError(f"only {len(item)} bytes")
    kind, count = _HEADER.unpack_from(item)
    if UUID(bytes_le=kind) != VHDX_PARENT:
        raise UnsupportedVhdxError(f"{file}: the parent is of the unknown type {UUID(bytes_le=kind)}")
    if not 1 <= count <= _MAX_PAIRS or _HEADER.size + count * _ENTRY.size > len(item):
        raise ValueError(f"{count} pairs in {len(item)} bytes; 1 to {_MAX_PAIRS} may be there")
    entries = [_ENTRY.unpack_from(item, _HEADER.size + index * _ENTRY.size) for index in range(count)]
    if sum(key_length + value_length for _, _, key_length, value_length in entries) > len(item):
        raise ValueError("the strings overlap")  # also bounds what decoding them can cost
    pairs: dict[str, str] = {}
    for key_offset, value_offset, key_length, value_length in entries:
        key = _string(item, key_offset, key_length)
        if key in pairs:
            raise ValueError(f"the key {key!r} is there twice")
        if key in _KNOWN_KEYS:
            pairs[key] = _string(item, value_offset, value_length)
    return pairs


def _string(item: bytes, offset_bytes: int, length_bytes: int) -> str:
    if length_bytes == 0 or length_bytes % 2 or offset_bytes + length_bytes > len(item):
        raise ValueError(f"a string at {offset_bytes} of {length_bytes} bytes in {len(item)} bytes")
    text = item[offset_bytes : offset_bytes + length_bytes].decode("utf-16-le")
    if "\0" in text:
        raise ValueError(f"a string at {offset_bytes} holds a NUL")
    return text
