"""Nodes of a disk tree: encoding and decoding (format, section 7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillframe.repository.blobs import ID_BYTES, BytesLike
from stillframe.repository.config import MAX_BLOCK_BYTES, MAX_FAN_OUT
from stillframe.repository.errors import DamagedError

VERSION = 1
MAX_PIECES = 16
MAX_HEIGHT = 40
ZEROS = bytes(ID_BYTES)
"""In the place of a piece's id: the piece is zero."""

_ZERO, _REFERENCE, _PIECES = 0, 1, 2
_HEADER = struct.Struct("<BBH")
_PIECE = struct.Struct("<III32s")


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a block: ``length_bytes`` at ``offset_bytes``, taken from ``blob_offset_bytes`` of a blob."""

    offset_bytes: int
    length_bytes: int
    blob_offset_bytes: int
    blob_id: bytes

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.length_bytes

    @property
    def is_zero(self) -> bool:
        return self.blob_id == ZEROS


@dataclass(frozen=True, slots=True)
class PiecedBlock:
    """A block with pieces laid over a base (None: zeros); later pieces lie over earlier ones."""

    base: bytes | None
    pieces: tuple[Piece, ...]


NodeEntry = bytes | PiecedBlock | None
"""A reference, a pieced block (height 0 only), or zero."""


@dataclass(frozen=True, slots=True)
class Node:
    height: int
    entries: tuple[NodeEntry, ...]

    def references(self) -> Iterator[bytes]:
        """Ids of all blobs that the node names."""
        for entry in self.entries:
            if isinstance(entry, bytes):
                yield entry
            elif entry is not None:
                if entry.base is not None:
                    yield entry.base
                yield from (piece.blob_id for piece in entry.pieces if not piece.is_zero)


def trimmed(entries: Sequence[NodeEntry]) -> Sequence[NodeEntry]:
    """Without the zeros at the end, which are implied."""
    length = len(entries)
    while length and entries[length - 1] is None:
        length -= 1
    return entries[:length]


def encode_node(height: int, entries: Sequence[NodeEntry]) -> bytes:
    """The bytes of a node; entries must not be all zero."""
    kept = trimmed(entries)
    assert kept, "an all-zero node is said by its parent, never stored"
    parts = [_HEADER.pack(VERSION, height, len(kept))]
    parts.extend(_encode_entry(entry) for entry in kept)
    return b"".join(parts)


def _encode_entry(entry: NodeEntry) -> bytes:
    if entry is None:
        return b"\0"
    if isinstance(entry, bytes):
        return b"\x01" + entry
    assert len(entry.pieces) <= MAX_PIECES
    base = b"\0" if entry.base is None else b"\x01" + entry.base
    pieces = b"".join(
        _PIECE.pack(piece.offset_bytes, piece.length_bytes, piece.blob_offset_bytes, piece.blob_id)
        for piece in entry.pieces
    )
    return b"\x02" + base + bytes((len(entry.pieces),)) + pieces


def decode_node(data: BytesLike, height: int, origin: str) -> Node:
    """A node of a known height.

    Raises:
        DamagedError: the bytes are no such node.
    """
    try:
        version, found_height, count = _HEADER.unpack_from(data)
        if version != VERSION or found_height != height or not 0 < count <= MAX_FAN_OUT:
            raise DamagedError(f"{origin}: is no node of height {height}")
        entries: list[NodeEntry] = []
        position = _HEADER.size
        for _ in range(count):
            entry, position = _decode_entry(data, position, height)
            entries.append(entry)
    except (struct.error, IndexError, ValueError) as error:
        raise DamagedError(f"{origin}: is no node ({error})") from error
    if position != len(data):
        raise DamagedError(f"{origin}: has {len(data) - position} bytes too many for a node")
    return Node(height, tuple(entries))


def _decode_entry(data: BytesLike, position: int, height: int) -> tuple[NodeEntry, int]:
    kind = data[position]
    position += 1
    if kind == _ZERO:
        return None, position
    if kind == _REFERENCE:
        return _decode_id(data, position), position + ID_BYTES
    if kind == _PIECES and height == 0:
        return _decode_pieces(data, position)
    raise ValueError(f"an entry of kind {kind} at height {height}")


def _decode_id(data: BytesLike, position: int) -> bytes:
    blob_id = bytes(data[position : position + ID_BYTES])
    if len(blob_id) != ID_BYTES:
        raise ValueError("it is cut off")
    return blob_id


def _decode_pieces(data: BytesLike, position: int) -> tuple[PiecedBlock, int]:
    base = None
    if data[position] == _REFERENCE:
        base = _decode_id(data, position + 1)
        position += ID_BYTES
    elif data[position] != _ZERO:
        raise ValueError(f"a base of kind {data[position]}")
    count = data[position + 1]
    position += 2
    if not 0 < count <= MAX_PIECES:
        raise ValueError(f"a block of {count} pieces")
    pieces = []
    for _ in range(count):
        piece = Piece(*_PIECE.unpack_from(data, position))
        if not 0 < piece.length_bytes <= MAX_BLOCK_BYTES or piece.end_bytes > MAX_BLOCK_BYTES:
            raise ValueError(f"a piece of {piece.length_bytes} bytes at {piece.offset_bytes}")
        pieces.append(piece)
        position += _PIECE.size
    return PiecedBlock(base, tuple(pieces)), position
