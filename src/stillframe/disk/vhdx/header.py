"""The two headers, of which one is current ([MS-VHDX] 2.2.2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.vhdx.errors import HeaderError, UnsupportedVhdxError
from stillframe.disk.vhdx.layout import (
    FIRST_FREE_BYTES,
    HEADER_OFFSETS,
    KIB,
    MIB,
    checksum_holds,
    sealed,
)

_HEADER_BYTES = 4 * KIB
_SIGNATURE = b"head"
_FIELDS = struct.Struct("<4s4xQ16s16s16sHHIQ")
_VERSION = 1
_LOG_VERSION = 0
MAX_LOG_BYTES = 256 * MIB  # ours; Windows and QEMU write 1 MiB


@dataclass(frozen=True, slots=True)
class Header:
    """One header. ``log_id`` all zero means that nothing is to be replayed."""

    sequence: int
    file_write_id: UUID
    data_write_id: UUID
    log_id: UUID
    log_version: int
    version: int
    log_length_bytes: int
    log_offset_bytes: int

    @property
    def log_is_empty(self) -> bool:
        return self.log_id.int == 0


def read_current_header(reader: RandomReader) -> Header:
    """The valid header with the greater sequence number.

    On equal numbers the specification knows no current header; we accept that only if both agree in all else.

    Raises:
        HeaderError: neither is valid, both contradict each other, or the log lies at an impossible place.
        UnsupportedVhdxError: an unknown version, or a log larger than we allow.
    """
    valid = [header for offset in HEADER_OFFSETS if (header := _read_header(reader, offset))]
    if not valid:
        raise HeaderError(reader.name, HEADER_OFFSETS[0], "neither of the two headers is valid")
    first, last = valid[0], valid[-1]
    if first.sequence == last.sequence and first != last:
        raise HeaderError(
            reader.name, HEADER_OFFSETS[0], f"both headers have number {first.sequence} but differ"
        )
    current = max(valid, key=lambda header: header.sequence)
    _check(reader, current)
    return current


def encode_header(header: Header) -> bytes:
    fields = _FIELDS.pack(
        _SIGNATURE,
        header.sequence,
        header.file_write_id.bytes_le,
        header.data_write_id.bytes_le,
        header.log_id.bytes_le,
        header.log_version,
        header.version,
        header.log_length_bytes,
        header.log_offset_bytes,
    )
    return sealed(fields.ljust(_HEADER_BYTES, b"\0"))


def _read_header(reader: RandomReader, offset_bytes: int) -> Header | None:
    structure = read_bytes(reader, offset_bytes, _HEADER_BYTES)
    signature, sequence, file_write, data_write, log, *rest = _FIELDS.unpack_from(structure)
    if signature != _SIGNATURE or not checksum_holds(structure):
        return None
    file_write_id, data_write_id, log_id = (UUID(bytes_le=each) for each in (file_write, data_write, log))
    return Header(sequence, file_write_id, data_write_id, log_id, *rest)


def _check(reader: RandomReader, header: Header) -> None:
    if header.version != _VERSION:
        raise UnsupportedVhdxError(
            f"{reader.name}: VHDX version {header.version} is unknown; we read version 1"
        )
    if header.log_version != _LOG_VERSION and not header.log_is_empty:
        raise UnsupportedVhdxError(f"{reader.name}: log version {header.log_version} is unknown")
    if header.log_length_bytes > MAX_LOG_BYTES:
        raise UnsupportedVhdxError(
            f"{reader.name}: a log of {header.log_length_bytes} bytes; we allow {MAX_LOG_BYTES}"
        )
    _check_log_place(reader, header)


def _check_log_place(reader: RandomReader, header: Header) -> None:
    offset_bytes, length_bytes = header.log_offset_bytes, header.log_length_bytes
    if length_bytes == 0 and header.log_is_empty:
        return
    if length_bytes == 0 or length_bytes % MIB or offset_bytes % MIB or offset_bytes < FIRST_FREE_BYTES:
        raise HeaderError(
            reader.name,
            HEADER_OFFSETS[0],
            f"impossible log: offset {offset_bytes}, length {length_bytes}; both must be whole MiB",
        )
    if offset_bytes + length_bytes > reader.size_bytes:
        raise HeaderError(
            reader.name, offset_bytes, f"the log ends behind the file's {reader.size_bytes} bytes"
        )
