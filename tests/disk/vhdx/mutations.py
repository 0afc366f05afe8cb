"""Damaged and hostile VHDX files: bytes changed anywhere, or single fields with checksums right again."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from google_crc32c import value as crc32c

from tests.disk.vhdx import builder as by_hand
from tests.disk.vhdx.builder import (
    BAT_AT,
    BLOCKS_AT,
    DATA_WRITE_ID,
    KIB,
    LOG_AT,
    METADATA_AT,
    MIB,
    DiskBuilder,
    Write,
    Zero,
    chained,
    dirty,
    partial,
    present,
)
from tests.disk.vhdx.sources import MemoryReader

HEADERS, TABLES = (64 * KIB, 128 * KIB), (192 * KIB, 256 * KIB)
STRUCTURES = (0, *HEADERS, *TABLES, LOG_AT, METADATA_AT, METADATA_AT + 64 * KIB, BAT_AT, BAT_AT + 8 * 4096)

DYNAMIC = DiskBuilder(
    entries={0: present(BLOCKS_AT), 1: 2, 2: 3, 5: present(BLOCKS_AT + 2 * MIB)},
    pieces=((BLOCKS_AT, b"data"),),
)
LOGGED = dirty(
    DYNAMIC,
    *chained(
        MIB - 8 * KIB,
        7,
        (Write(BLOCKS_AT, b"new"), Zero(BLOCKS_AT + 8 * KIB, 8 * KIB)),
        (Write(BAT_AT, by_hand.bat_page({0: present(BLOCKS_AT), 3: present(BLOCKS_AT + 4 * MIB)})),),
        (),
    ),
)
CHILD = DiskBuilder(
    parent={"parent_linkage": f"{{{DATA_WRITE_ID}}}", "relative_path": "parent.vhdx"},
    entries={0: partial(BLOCKS_AT + MIB), 1: present(BLOCKS_AT + 2 * MIB), 4096: present(BLOCKS_AT)},
    pieces=((BLOCKS_AT, b"\x55" * 300),),
    header=by_hand.HeaderFields(data_write_id=by_hand.DISK_ID),
)
CORPUS = (DYNAMIC, LOGGED, CHILD)


@dataclass(frozen=True)
class Field:
    """A number in a structure, and what to seal afterwards."""

    offset: int
    size: int
    seal: Callable[[MemoryReader], tuple[int, bytes]] | None = None


def read(reader: MemoryReader, offset: int, length: int) -> bytes:
    buffer = bytearray(max(0, min(length, reader.size_bytes - offset)))
    reader.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def resealed(offset: int, length: int) -> Callable[[MemoryReader], tuple[int, bytes]]:
    def seal(reader: MemoryReader) -> tuple[int, bytes]:
        raw = read(reader, offset, length)
        return offset + 4, struct.pack("<I", crc32c(raw[:4] + bytes(4) + raw[8:]))

    return seal


def sealed_entry(position: int) -> Callable[[MemoryReader], tuple[int, bytes]]:
    """Over the length that the entry now claims, around the end of the log."""

    def seal(reader: MemoryReader) -> tuple[int, bytes]:
        (length,) = struct.unpack("<I", read(reader, LOG_AT + position + 8, 4))
        log = read(reader, LOG_AT, MIB)
        raw = (log[position:] + log)[: min(length, MIB)]
        return LOG_AT + position + 4, struct.pack("<I", crc32c(raw[:4] + bytes(4) + raw[8:]))

    return seal


def fields() -> list[Field]:
    found: list[Field] = []
    for at in HEADERS:
        places = ((8, 8), (16, 8), (32, 8), (48, 8), (64, 2), (66, 2), (68, 4), (72, 8))
        found += [Field(at + offset, size, resealed(at, 4 * KIB)) for offset, size in places]
    for at in TABLES:
        places = (
            (8, 4),
            *((16 + 32 * n + o, s) for n in range(2) for o, s in ((0, 8), (16, 8), (24, 4), (28, 4))),
        )
        found += [Field(at + offset, size, resealed(at, 64 * KIB)) for offset, size in places]
    found.append(Field(METADATA_AT + 10, 2))
    for item in range(6):
        at = METADATA_AT + 32 + 32 * item
        found += [Field(at + offset, size) for offset, size in ((0, 8), (16, 4), (20, 4), (24, 4))]
    found += [
        Field(METADATA_AT + 64 * KIB + at, size) for at, size in ((0, 4), (4, 4), (8, 8), (32, 4), (36, 4))
    ]
    found += [Field(METADATA_AT + 64 * KIB + 40 + at, 4) for at in range(0, 64, 4)]
    found += [Field(BAT_AT + 8 * index, 8) for index in (0, 1, 2, 3, 4, 5, 7, 8, 4096)]
    for position in (MIB - 8 * KIB, 0, 4 * KIB, 8 * KIB, 12 * KIB):
        places = (
            (8, 4),
            (12, 4),
            (16, 8),
            (24, 4),
            (48, 8),
            (56, 8),
            (64, 4),
            (72, 8),
            (80, 8),
            (88, 8),
            (104, 8),
        )
        found += [Field(LOG_AT + position + at, size, sealed_entry(position)) for at, size in places]
    return found


FIELDS = fields()


def interesting(chance: random.Random, size: int, old: int) -> int:
    top = 1 << (8 * size)
    unit = chance.choice([1, 8, 512, 4 * KIB, 64 * KIB, MIB])
    edges = [0, 1, top // 2, top - 1, top - unit]
    near = [old + unit, old - unit, old * 2, old // 2, old ^ (1 << chance.randrange(8 * size))]
    plausible = [chance.randrange(8), unit * chance.randrange(64), BLOCKS_AT | chance.randrange(8)]
    return chance.choice([*edges, *near, *plausible, chance.randrange(top)]) % top


def mutate_field(reader: MemoryReader, chance: random.Random) -> None:
    field = chance.choice(FIELDS)
    old = int.from_bytes(read(reader, field.offset, field.size), "little")
    new = interesting(chance, field.size, old).to_bytes(field.size, "little")
    reader.pieces.append((field.offset, new))
    if field.seal:
        reader.pieces.append(field.seal(reader))


def mutate_bytes(reader: MemoryReader, chance: random.Random) -> None:
    near = chance.choice(STRUCTURES)
    length = chance.choice([1, 1, 2, 4, 8, 100, 5000])
    distance = chance.choice([0, chance.randrange(256), chance.randrange(4 * KIB)])
    offset = min(near + distance, reader.size_bytes - length)
    piece = chance.choice([chance.randbytes(length), bytes(length), b"\xff" * length])
    reader.pieces.append((offset, piece))


def mutated(seed: int) -> tuple[MemoryReader, list[str]]:
    """A hostile file, and how it came about."""
    chance = random.Random(seed)
    reader = chance.choice(CORPUS).reader()
    story = []
    for _ in range(chance.choice([1, 1, 1, 2, 3, 6])):
        change = chance.choice([mutate_field, mutate_field, mutate_field, mutate_bytes])
        change(reader, chance)
        story.append(f"{change.__name__} at {reader.pieces[-1][0]:#x}")
    if chance.random() < 0.05:
        reader = reader.cut(chance.randrange(reader.size_bytes))
        story.append(f"cut at {reader.size_bytes}")
    return reader, story
