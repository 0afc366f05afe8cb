"""LVM2: volume groups over the physical volumes of a disk, and logical volumes of linear or striped segments.

Our own reader, as libvslvm refuses volumes of more than one segment and does not tell a thin volume from a
linear one. On-disk layout: lvm2, lib/format_text/layout.h and lib/label/label.h; text: lib/format_text.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from stillframe.disk.reader import RandomReader
from stillframe.errors import CorruptInputError, UnsupportedError
from stillframe.recovery.filesystems.lvm_text import Section, Value, parse
from stillframe.recovery.filesystems.readers import peek, require_range

_SECTOR_BYTES: Final = 512
_LABEL_SECTORS: Final = 4
_MDA_HEADER_BYTES: Final = 512
_MDA_MAGIC: Final = b" LVM2 x[5A%r0N*>"
_CRC_START: Final = 0xF597A6CF
_MAX_TEXT_BYTES: Final = 16 << 20
_MAX_AREAS: Final = 16
_MAX_SEGMENTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A physical volume found on a disk: its id and the metadata text it carries, if any."""

    identifier: str
    reader: RandomReader
    text: str


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """``trouble`` says why it cannot be read; then ``reader`` is None."""

    group: str
    name: str
    size_bytes: int
    reader: RandomReader | None
    trouble: str = ""


def read_physical_volume(reader: RandomReader) -> PhysicalVolume | None:
    """What the label in the first four sectors says, or None where there is none."""
    for sector in range(_LABEL_SECTORS):
        label = peek(reader, sector * _SECTOR_BYTES, _SECTOR_BYTES)
        if label[:8] == b"LABELONE" and label[24:32] == b"LVM2 001":
            return _physical_volume(reader, label)
    return None


def logical_volumes(physical: Sequence[PhysicalVolume]) -> list[LogicalVolume]:
    """All visible logical volumes whose groups are described by these physical volumes.

    Of several descriptions of a group the one with the highest sequence number counts.

    Raises:
        CorruptInputError: the metadata are damaged.
    """
    newest: dict[str, Section] = {}
    for volume in physical:
        for name, group in parse(volume.text).items():
            if isinstance(group, dict) and "physical_volumes" in group:
                known = newest.get(name)
                if known is None or _integer(group, "seqno") > _integer(known, "seqno"):
                    newest[name] = group
    readers = {volume.identifier: volume.reader for volume in physical}
    return [volume for name, group in newest.items() for volume in _Group(name, group, readers).volumes()]


def _physical_volume(reader: RandomReader, label: bytes) -> PhysicalVolume:
    (at,) = struct.unpack_from("<I", label, 20)
    if at > _SECTOR_BYTES - 40:
        raise CorruptInputError(f"{reader.name}: the LVM2 label is damaged")
    identifier = label[at : at + 32].decode("ascii", "replace")
    areas = struct.iter_unpack("<QQ", label[at + 40 : at + 40 + (_SECTOR_BYTES - at - 40) // 16 * 16])
    _data, metadata = _area_list(areas), _area_list(areas)
    texts = [text for offset, _ in metadata if (text := _metadata_text(reader, offset))]
    return PhysicalVolume(identifier, reader, texts[0] if texts else "")


def _area_list(areas: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """One list of areas, which a pair of zeros ends."""
    found: list[tuple[int, int]] = []
    for offset, size in areas:
        if not offset or len(found) == _MAX_AREAS:
            break
        found.append((offset, size))
    return found


def _metadata_text(reader: RandomReader, area: int) -> str:
    header = peek(reader, area, _MDA_HEADER_BYTES)
    if header[4:20] != _MDA_MAGIC or struct.unpack_from("<I", header)[0] != _checksum(header[4:]):
        raise CorruptInputError(f"{reader.name}: the LVM2 metadata area at {area} is damaged")
    (area_bytes,) = struct.unpack_from("<Q", header, 32)
    offset, length, checksum, _flags = struct.unpack_from("<QQII", header, 40)
    if not offset:
        return ""
    if length > min(_MAX_TEXT_BYTES, area_bytes) or offset > area_bytes:
        raise CorruptInputError(f"{reader.name}: the LVM2 metadata at {area} are {length} bytes long")
    first = min(length, area_bytes - offset)
    raw = peek(reader, area + offset, first) + peek(reader, area + _MDA_HEADER_BYTES, length - first)
    if _checksum(raw) != checksum:
        raise CorruptInputError(f"{reader.name}: the LVM2 metadata at {area + offset} fail their checksum")
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def _checksum(data: bytes) -> int:
    return zlib.crc32(data, _CRC_START ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


class _Group:
    """A volume group: finds where each extent of its logical volumes lies."""

    def __init__(self, name: str, group: Section, readers: dict[str, RandomReader]) -> None:
        self._name = name
        self._group = group
        self._extent_bytes = _integer(group, "extent_size") * _SECTOR_BYTES
        if self._extent_bytes <= 0:
            raise CorruptInputError(f"volume group {name}: its extents have no size")
        self._physical = {
            label: (readers.get(str(section.get("id", "")).replace("-", "")), _integer(section, "pe_start"))
            for label, section in _sections(group.get("physical_volumes"))
        }

    def volumes(self) -> Iterator[LogicalVolume]:
        for name, section in _sections(self._group.get("logical_volumes")):
            status = section.get("status")
            if isinstance(status, list) and "VISIBLE" in status:
                yield self._volume(name, section)

    def _volume(self, name: str, section: Section) -> LogicalVolume:
        segments = [segment for label, segment in _sections(section) if label.startswith("segment")]
        if len(segments) > _MAX_SEGMENTS:
            raise CorruptInputError(f"logical volume {name}: has {len(segments)} segments")
        size_bytes = sum(_integer(segment, "extent_count") for segment in segments) * self._extent_bytes
        try:
            pieces = sorted((piece for s in segments for piece in self._pieces(s)), key=lambda p: p.start)
            reader = LogicalVolumeReader(f"lvm:{self._name}/{name}", size_bytes, pieces)
        except UnsupportedError as error:
            return LogicalVolume(self._name, name, size_bytes, None, str(error))
        return LogicalVolume(self._name, name, size_bytes, reader)

    def _pieces(self, segment: Section) -> Iterator[_Piece]:
        kind = segment.get("type")
        if kind != "striped":
            raise UnsupportedError(f"LVM2 volumes of type {kind} cannot be read")
        stripes = segment.get("stripes")
        count = _integer(segment, "stripe_count")
        if not isinstance(stripes, list) or len(stripes) != 2 * count or not count:
            raise CorruptInputError(f"volume group {self._name}: a segment lists its stripes wrongly")
        places = [self._place(stripes[2 * n], stripes[2 * n + 1]) for n in range(count)]
        length = _integer(segment, "extent_count") * self._extent_bytes
        stripe = _integer(segment, "stripe_size") * _SECTOR_BYTES if count > 1 else length
        if length <= 0 or stripe <= 0:
            raise CorruptInputError(f"volume group {self._name}: a segment has no size")
        yield _Piece(_integer(segment, "start_extent") * self._extent_bytes, length, stripe, tuple(places))

    def _place(self, label: Value, extent: Value) -> tuple[RandomReader, int]:
        reader, start_sectors = self._physical.get(str(label), (None, 0))
        if reader is None or not isinstance(extent, int):
            raise UnsupportedError(f"the physical volume {label} of group {self._name} is not on this disk")
        return reader, start_sectors * _SECTOR_BYTES + extent * self._extent_bytes


@dataclass(frozen=True, slots=True)
class _Piece:
    """A segment: ``stripe_bytes`` from each place in turn."""

    start: int
    length: int
    stripe_bytes: int
    places: tuple[tuple[RandomReader, int], ...]

    def locate(self, offset: int) -> tuple[RandomReader, int, int]:
        """Reader, offset in it, and how many bytes go on there."""
        stripe, within = divmod(offset - self.start, self.stripe_bytes)
        row, column = divmod(stripe, len(self.places))
        reader, base = self.places[column]
        left = min(self.stripe_bytes - within, self.start + self.length - offset)
        return reader, base + row * self.stripe_bytes + within, left


class LogicalVolumeReader:
    """A logical volume as one run of bytes."""

    def __init__(self, name: str, size_bytes: int, pieces: list[_Piece]) -> None:
        end = 0
        for piece in pieces:
            if piece.start != end:
                raise CorruptInputError(f"{name}: its segments overlap or leave a gap at {end}")
            end += piece.length
        self.name = name
        self.size_bytes = size_bytes
        self._pieces = pieces

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        require_range(self, offset_bytes, len(buffer))
        done = 0
        while done < len(buffer):
            at = offset_bytes + done
            piece = next(p for p in self._pieces if p.start <= at < p.start + p.length)
            reader, place, left = piece.locate(at)
            part = buffer[done : done + left]
            reader.read_into(place, part)
            done += len(part)

    def close(self) -> None:
        pass


def _sections(value: Value | None) -> Iterator[tuple[str, Section]]:
    if isinstance(value, dict):
        yield from ((name, section) for name, section in value.items() if isinstance(section, dict))


def _integer(section: Section, name: str) -> int:
    value = section.get(name)
    if not isinstance(value, int) or value < 0:
        raise CorruptInputError(f"the LVM2 metadata lack a number for {name}")
    return value
