"""Partition tables: MBR with its chain of extended partitions, and GPT by libvsgpt.

MBR: the classic layout of four 16-byte entries at 446, type 1 byte at 4, start and length in sectors at 8 and
12. An extended partition holds a chain of tables; the first entry of each is a logical partition relative to
its own table, the second points at the next table relative to the extended partition's start.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stillframe.disk.reader import RandomReader
from stillframe.recovery.filesystems.libyal import load_library, parsing
from stillframe.recovery.filesystems.readers import ReaderFile, peek

_EXTENDED: Final = {0x05, 0x0F, 0x85}
_PROTECTIVE: Final = 0xEE
_MAX_LOGICAL: Final = 128
_GPT_TYPES: Final = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Windows data",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3": "Windows dynamic disk metadata",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "Windows dynamic disk data",
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": "Storage Spaces",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux data",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux boot",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
}
_MBR_TYPES: Final = {
    0x07: "NTFS or exFAT",
    0x82: "Linux swap",
    0x83: "Linux",
    0x8E: "Linux LVM",
    0xEF: "EFI system",
}


@dataclass(frozen=True, slots=True)
class Partition:
    """``number`` is what Linux would count it as."""

    number: int
    offset_bytes: int
    size_bytes: int
    type_name: str


def has_gpt(reader: RandomReader, sector_bytes: int) -> bool:
    return peek(reader, sector_bytes, 8) == b"EFI PART"


def read_gpt(reader: RandomReader) -> list[Partition]:
    """All partitions that a GPT lists.

    Raises:
        CorruptInputError: the table is damaged.
    """
    library = load_library("pyvsgpt")
    file = ReaderFile(reader)
    volume = library.volume()
    with parsing(f"{reader.name}: the partition table (GPT)", file):
        volume.open_file_object(file)
        found = [volume.get_partition(number) for number in range(volume.number_of_partitions)]
        return [
            Partition(p.entry_index + 1, p.volume_offset, p.size, _gpt_type(p.type_identifier)) for p in found
        ]


def read_mbr(reader: RandomReader, sector_bytes: int) -> list[Partition]:
    """The partitions of an MBR, or none where the first sector is not one."""
    entries = _table(reader, 0)
    if entries is None or any(
        not entry.is_plausible(reader, sector_bytes) for entry in entries if entry.type
    ):
        return []
    partitions: list[Partition] = []
    for number, entry in enumerate(entries, start=1):
        if entry.type in _EXTENDED:
            partitions += _logical(reader, entry.start, sector_bytes)
        elif entry.type not in {0, _PROTECTIVE} and entry.length:
            partitions.append(entry.partition(number, 0, sector_bytes))
    return sorted(partitions, key=lambda partition: partition.number)


@dataclass(frozen=True, slots=True)
class _Entry:
    boot: int
    type: int
    start: int
    length: int

    def is_plausible(self, reader: RandomReader, sector_bytes: int) -> bool:
        begins_inside = 0 < self.start * sector_bytes < reader.size_bytes
        return self.boot in {0x00, 0x80} and begins_inside and self.length > 0

    def partition(self, number: int, base: int, sector_bytes: int) -> Partition:
        name = _MBR_TYPES.get(self.type, f"type {self.type:#04x}")
        return Partition(number, (base + self.start) * sector_bytes, self.length * sector_bytes, name)


def _table(reader: RandomReader, offset_bytes: int) -> list[_Entry] | None:
    sector = peek(reader, offset_bytes, 512)
    if sector[510:512] != b"\x55\xaa":
        return None
    raw = [struct.unpack_from("<B3xB3xII", sector, 446 + 16 * number) for number in range(4)]
    return [_Entry(*fields) for fields in raw]


def _logical(reader: RandomReader, extended: int, sector_bytes: int) -> Iterator[Partition]:
    """Follow the chain; one that is longer than any system makes, or turns back, ends there."""
    table, seen = extended, set[int]()
    while table not in seen and len(seen) < _MAX_LOGICAL:
        seen.add(table)
        entries = _table(reader, table * sector_bytes)
        if entries is None:
            return
        first, following = entries[0], entries[1]
        if first.type and first.length:
            yield first.partition(4 + len(seen), table, sector_bytes)
        if following.type not in _EXTENDED:
            return
        table = extended + following.start


def _gpt_type(identifier: str) -> str:
    return _GPT_TYPES.get(identifier.lower(), f"type {identifier.lower()}")
