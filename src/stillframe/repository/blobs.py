"""Blobs: typed runs of bytes, their ids, and how they are coded (format, sections 4 and 5)."""

from __future__ import annotations

import threading
from enum import IntEnum

from blake3 import blake3

from stillframe.repository.errors import DamagedError, UnknownFeatureError
from stillframe.repository.keys import derive
from stillframe.repository.zstandard import zstd

BytesLike = bytes | bytearray | memoryview

ID_BYTES = 32
MAX_BLOB_BYTES = 64 << 20  # far above any block or node; bounds what a reader allocates

_WORTH_IT = 0.99  # what shrinks less is stored as it is: decoding would cost more than it saves


class BlobType(IntEnum):
    DATA = 1
    NODE = 2
    DOCUMENT = 3


class Codec(IntEnum):
    PLAIN = 0
    ZSTD = 1


class IdKeys:
    """Computes blob ids. The type is in the key, so guest data can never pass for a node."""

    def __init__(self, id_key: bytes) -> None:
        self._keys = {kind: derive(f"id {kind.name.lower()}", id_key) for kind in BlobType}

    def id_of(self, kind: BlobType, data: BytesLike) -> bytes:
        return blake3(data, key=self._keys[kind]).digest()


class Compressor:
    """Compresses blobs at one level; None stores them as they are. Safe to share between threads."""

    def __init__(self, level: int | None) -> None:
        self._level = level
        self._local = threading.local()

    def encode(self, data: BytesLike) -> tuple[Codec, BytesLike]:
        """The coded form; ``data`` itself where compressing does not pay."""
        if self._level is None or not data:
            return Codec.PLAIN, data
        packed = self._compress(data)
        return (Codec.ZSTD, packed) if len(packed) < _WORTH_IT * len(data) else (Codec.PLAIN, data)

    def _compress(self, data: BytesLike) -> bytes:
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = self._local.compressor = zstd.ZstdCompressor(options=_options(self._level))
        packed: bytes = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
        return packed


def _options(level: int | None) -> dict[int, int]:
    """Level 1 with a hash table four times its usual size: 2 % smaller for a fifth more time."""
    options: dict[int, int] = {zstd.CompressionParameter.compression_level: level or 0}
    if level == 1:
        options[zstd.CompressionParameter.hash_log] = 16
    return options


def decode(codec: int, coded: BytesLike, length_bytes: int, origin: str) -> BytesLike:
    """Undo ``Compressor.encode``.

    Raises:
        DamagedError: ``coded`` does not decode to exactly ``length_bytes``; ``origin`` names it.
        UnknownFeatureError: a codec of the future.
    """
    if codec == Codec.PLAIN:
        plain: BytesLike = coded
    elif codec == Codec.ZSTD:
        plain = _decompress(coded, length_bytes, origin)
    else:
        raise UnknownFeatureError(f"{origin}: coded with unknown codec {codec}")
    if len(plain) != length_bytes:
        raise DamagedError(f"{origin}: decodes to {len(plain)} bytes instead of {length_bytes}")
    return plain


def _decompress(coded: BytesLike, length_bytes: int, origin: str) -> bytes:
    decompressor = zstd.ZstdDecompressor()
    try:
        # One frame, and never more than the blob may have: nothing can make us allocate without end.
        plain: bytes = decompressor.decompress(coded, length_bytes + 1)
    except zstd.ZstdError as error:
        raise DamagedError(f"{origin}: cannot be decompressed ({error})") from error
    if not decompressor.eof or decompressor.unused_data:
        raise DamagedError(f"{origin}: is not one whole frame of {length_bytes} bytes")
    return plain
