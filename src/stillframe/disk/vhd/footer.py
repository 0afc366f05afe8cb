"""The footer: 512 bytes at the end of the file; dynamic and differencing disks keep a copy at offset 0."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from enum import IntEnum

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.still import MAX_DISK_BYTES
from stillframe.disk.vhd.checksum import checksum
from stillframe.disk.vhd.geometry import ChsGeometry
from stillframe.errors import CorruptInputError, UnsupportedError

COOKIE = b"conectix"
FOOTER_BYTES = 512
SECTOR_BYTES = 512
MAX_DYNAMIC_BYTES = 2040 << 30
NO_HEADER = 0xFFFF_FFFF_FFFF_FFFF

_VERSION = 0x0001_0000
_FEATURES_RESERVED = 2  # "must always be set to 1"
_CHECKSUM_OFFSET = 64
_LAYOUT = struct.Struct(">8s I I Q I 4s I 4s Q Q HBB I I 16s B 427x")
# Before Virtual PC 2004 the footer was one byte shorter (the last reserved byte is missing).
_END_LENGTHS = (FOOTER_BYTES, FOOTER_BYTES - 1)


class VhdType(IntEnum):
    """The disk type field."""

    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


@dataclass(frozen=True, slots=True)
class Footer:
    """What a VHD says of itself."""

    kind: VhdType
    current_size_bytes: int
    original_size_bytes: int
    header_offset_bytes: int  # of the dynamic header; NO_HEADER in a fixed disk
    timestamp_s: int  # since 2000-01-01 UTC
    creator: bytes  # four ASCII characters
    creator_version: int
    creator_host: bytes
    geometry: ChsGeometry
    unique_id: bytes  # 16, as stored
    saved_state: bool = False

    @property
    def disk_id(self) -> str:
        """The unique id as Windows shows it (it stores a GUID's first three fields little-endian)."""
        return str(uuid.UUID(bytes_le=self.unique_id))

    def pack(self) -> bytes:
        fields = _LAYOUT.pack(
            COOKIE,
            _FEATURES_RESERVED,
            _VERSION,
            self.header_offset_bytes,
            self.timestamp_s,
            self.creator,
            self.creator_version,
            self.creator_host,
            self.original_size_bytes,
            self.current_size_bytes,
            self.geometry.cylinders,
            self.geometry.heads,
            self.geometry.sectors_per_track,
            self.kind,
            0,
            self.unique_id,
            self.saved_state,
        )
        sealed = bytearray(fields)
        struct.pack_into(">I", sealed, _CHECKSUM_OFFSET, checksum(fields, _CHECKSUM_OFFSET))
        return bytes(sealed)


@dataclass(frozen=True, slots=True)
class FoundFooter:
    """A valid footer and where the file keeps it."""

    footer: Footer
    offset_bytes: int
    note: str = ""  # why this one, if it is not the one at the end


def looks_like_vhd(reader: RandomReader) -> bool:
    """Whether a footer's cookie stands at the end (512 or 511 bytes before it) or at the beginning."""
    return any(
        read_bytes(reader, offset, len(COOKIE)) == COOKIE
        for offset in (0, *(reader.size_bytes - length for length in _END_LENGTHS))
        if 0 <= offset <= reader.size_bytes - len(COOKIE)
    )


def find_footer(reader: RandomReader) -> FoundFooter:
    """The footer at the end, or the copy at the beginning where that one is damaged.

    Raises:
        CorruptInputError: neither is valid; the message says what is wrong with the one at the end.
    """
    reasons = []
    for length in _END_LENGTHS:
        offset = reader.size_bytes - length
        if offset < 0:
            continue
        try:
            return FoundFooter(_footer_at(reader, offset, length), offset)
        except CorruptInputError as error:
            reasons.append(error)
    try:
        footer = _footer_at(reader, 0, FOOTER_BYTES)
    except CorruptInputError as error:
        raise (reasons or [error])[0] from error
    if footer.kind is VhdType.FIXED:
        raise CorruptInputError(f"{reader.name}: is a fixed VHD that was cut off: its footer is missing")
    note = "the footer at the end is missing or damaged, so the copy at the beginning is used; "
    return FoundFooter(footer, 0, note + "the file may be torn")


def _footer_at(reader: RandomReader, offset_bytes: int, length_bytes: int) -> Footer:
    if offset_bytes + length_bytes > reader.size_bytes:
        raise CorruptInputError(f"{reader.name}: is too short for a VHD footer")
    stored = read_bytes(reader, offset_bytes, length_bytes).ljust(FOOTER_BYTES, b"\0")
    return parse_footer(stored, f"{reader.name}: VHD footer at {offset_bytes}")


def parse_footer(stored: bytes, where: str) -> Footer:
    """Parse and check one footer; ``where`` begins every message.

    Raises:
        CorruptInputError: cookie, checksum or a field is wrong.
        UnsupportedError: a version other than 1.
    """
    cookie, _features, version, header, timestamp, creator, *rest = _LAYOUT.unpack(stored)
    (
        creator_version,
        host,
        original,
        current,
        cylinders,
        heads,
        sectors,
        kind,
        stored_sum,
        unique_id,
        saved,
    ) = rest
    if cookie != COOKIE:
        raise CorruptInputError(f"{where}: does not begin with 'conectix'")
    if stored_sum != checksum(stored, _CHECKSUM_OFFSET):
        raise CorruptInputError(f"{where}: has a wrong checksum")
    if version >> 16 != _VERSION >> 16:
        raise UnsupportedError(f"{where}: has version {version >> 16}.{version & 0xFFFF}; only 1.x is known")
    if kind not in tuple(VhdType):
        raise CorruptInputError(f"{where}: names the unknown disk type {kind}")
    _check_size(VhdType(kind), current, where)
    return Footer(
        kind=VhdType(kind),
        current_size_bytes=current,
        original_size_bytes=original,
        header_offset_bytes=header,
        timestamp_s=timestamp,
        creator=creator,
        creator_version=creator_version,
        creator_host=host,
        geometry=ChsGeometry(cylinders, heads, sectors),
        unique_id=unique_id,
        saved_state=bool(saved),
    )


def _check_size(kind: VhdType, size_bytes: int, where: str) -> None:
    limit = MAX_DISK_BYTES if kind is VhdType.FIXED else MAX_DYNAMIC_BYTES
    if not 0 < size_bytes <= limit or size_bytes % SECTOR_BYTES:
        raise CorruptInputError(
            f"{where}: gives the disk {size_bytes} bytes, not a number of sectors up to {limit} bytes"
        )
