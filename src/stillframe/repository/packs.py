"""Packs: immutable, self-describing containers of encrypted blobs (format, section 5)."""

from __future__ import annotations

import mmap
import os
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from stillframe.repository.blobs import MAX_BLOB_BYTES, BlobType, BytesLike, Codec, decode
from stillframe.repository.config import MAX_PACK_BYTES
from stillframe.repository.errors import DamagedError, ReaderKeyNeededError
from stillframe.repository.keys import Bundle, Entropy, derive

MAGIC, TRAILER_MAGIC = b"SFPACK01", b"SFPACKND"
HEADER = struct.Struct("<8sBBHI32s")
TRAILER = struct.Struct("<I8s")
ROW = struct.Struct("<32sBBHIII")
TAG_BYTES = 16
SEALED_BYTES = 80
SALT_BYTES = 32
ZERO_NONCE = bytes(12)
_SLACK_BYTES = 2 << 20

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SEAL_INFO = b"stillframe 1 pack key"


class PackKind(IntEnum):
    DATA = 1
    METADATA = 2

    @property
    def folder(self) -> str:
        return "data" if self is PackKind.DATA else "meta"

    @classmethod
    def holding(cls, kind: BlobType) -> PackKind:
        return cls.DATA if kind is BlobType.DATA else cls.METADATA


@dataclass(frozen=True, slots=True)
class PackRow:
    """Where one blob lies in its pack."""

    blob_id: bytes
    kind: BlobType
    codec: Codec
    offset_bytes: int
    stored_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A pack in storage, without its bytes."""

    pack_id: bytes
    kind: PackKind
    size_bytes: int
    rows: tuple[PackRow, ...]

    @property
    def object_name(self) -> str:
        return pack_name(self.kind, self.pack_id)


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A finished pack, ready to be put."""

    stored: StoredPack
    data: BytesLike
    buffer: mmap.mmap | None = None
    """What ``data`` lies in, for ``PackMemory``."""

    @property
    def object_name(self) -> str:
        return self.stored.object_name


def pack_name(kind: PackKind, pack_id: bytes) -> str:
    name = pack_id.hex()
    return f"{kind.folder}/{name[:2]}/{name}"


class PackMemory:
    """Buffers of packs that were put, to be filled again: their pages need no mapping anew. Thread-safe."""

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque()

    def take(self, length_bytes: int) -> mmap.mmap:
        """A buffer of at least this length; what it holds is left from another pack."""
        try:
            buffer = self._free.pop()
        except IndexError:
            return mmap.mmap(-1, length_bytes)
        return buffer if len(buffer) >= length_bytes else mmap.mmap(-1, length_bytes)

    def give_back(self, pack: SealedPack) -> None:
        """Nobody reads the pack's bytes any more."""
        if isinstance(pack.buffer, mmap.mmap):
            self._free.append(pack.buffer)


class PackBuilder:
    """Fills one pack. Not for several threads at once; each has its own."""

    def __init__(
        self,
        kind: PackKind,
        bundle: Bundle,
        pack_bytes: int,
        entropy: Entropy = os.urandom,
        memory: PackMemory | None = None,
    ) -> None:
        keys = bundle.keys_of(bundle.epoch, "a new pack")
        self._kind = kind
        self._salt = entropy(SALT_BYTES)
        sealed_bytes = SEALED_BYTES if kind is PackKind.DATA else 0
        self._header = HEADER.pack(MAGIC, kind, 0, bundle.epoch, sealed_bytes, self._salt)
        sealed = b""
        if kind is PackKind.DATA:
            pack_key = entropy(32)
            public = X25519PublicKey.from_public_bytes(keys.reader_public_key)
            sealed = _SUITE.encrypt(pack_key, public, info=_SEAL_INFO + self._header)
        else:
            pack_key = _metadata_pack_key(keys.metadata_key, self._salt)
        self._cipher = AESGCM(pack_key)
        self._directory_cipher = AESGCM(derive("directory", keys.metadata_key + self._salt))
        self._rows: list[PackRow] = []
        self._target_bytes = pack_bytes
        self._used_bytes = len(self._header) + len(sealed)
        # Reserved at once, so that it never moves while it grows; pages cost nothing before they are written.
        self._buffer = (memory or PackMemory()).take(pack_bytes + _SLACK_BYTES)
        self._buffer[: self._used_bytes] = self._header + sealed

    @property
    def size_bytes(self) -> int:
        return self._used_bytes

    @property
    def is_empty(self) -> bool:
        return not self._rows

    @property
    def is_full(self) -> bool:
        return self._used_bytes >= self._target_bytes

    def add(
        self, blob_id: bytes, kind: BlobType, codec: Codec, coded: BytesLike, length_bytes: int
    ) -> PackRow:
        """Encrypt a blob into the pack."""
        offset_bytes, stored_bytes = self._used_bytes, len(coded) + TAG_BYTES
        row = PackRow(blob_id, kind, codec, offset_bytes, stored_bytes, length_bytes)
        with self._room(stored_bytes) as room:
            self._cipher.encrypt_into(_nonce(offset_bytes), coded, _aad(self._salt, row), room)
        self._rows.append(row)
        return row

    def read_back(self, row: PackRow) -> BytesLike:
        """Decrypt and decode what was just added, from the very bytes that will be stored.

        A fault of memory or of a library shows here, while the source can still be read (peers lost data to
        compressor bugs that only a later restore showed).
        """
        with memoryview(self._buffer)[row.offset_bytes : row.offset_bytes + row.stored_bytes] as stored:
            return PackOpener("a pack being written", self._salt, self._cipher).open(row, stored)

    def _room(self, length_bytes: int) -> memoryview:
        """The next so many bytes of the pack, to be filled."""
        start, end = self._used_bytes, self._used_bytes + length_bytes
        if end > len(self._buffer):
            self._grow(end)
        self._used_bytes = end
        return memoryview(self._buffer)[start:end]

    def _grow(self, needed_bytes: int) -> None:
        """The last blob or the directory needs more than was reserved."""
        larger = mmap.mmap(-1, needed_bytes + _SLACK_BYTES)
        larger[: self._used_bytes] = self._buffer[: self._used_bytes]
        self._buffer = larger

    def seal(self) -> SealedPack:
        """Close the pack with its directory; the builder must not be used afterwards."""
        rows = b"".join(
            ROW.pack(r.blob_id, r.kind, r.codec, 0, r.offset_bytes, r.stored_bytes, r.length_bytes)
            for r in self._rows
        )
        directory = self._directory_cipher.encrypt(ZERO_NONCE, rows, self._header)
        ending = directory + TRAILER.pack(len(directory), TRAILER_MAGIC)
        with self._room(len(ending)) as room:
            room[:] = ending
        data = memoryview(self._buffer)[: self._used_bytes]
        stored = StoredPack(blake3(data).digest(), self._kind, len(data), tuple(self._rows))
        return SealedPack(stored, data, self._buffer)


@dataclass(frozen=True, slots=True)
class PackOpener:
    """Decrypts blobs of one pack."""

    name: str
    salt: bytes
    cipher: AESGCM

    def open(self, row: PackRow, stored: BytesLike) -> BytesLike:
        """The blob's bytes.

        Raises:
            DamagedError: the stored bytes are not what was written.
        """
        return self.decoded(row, self.decrypted(row, stored))

    def decrypted(self, row: PackRow, stored: BytesLike) -> bytes:
        """The blob as it was coded."""
        try:
            return self.cipher.decrypt(_nonce(row.offset_bytes), stored, _aad(self.salt, row))
        except InvalidTag as error:
            raise DamagedError(f"{self._origin(row)}: is damaged") from error

    def decoded(self, row: PackRow, coded: BytesLike) -> BytesLike:
        return decode(row.codec, coded, row.length_bytes, self._origin(row))

    def _origin(self, row: PackRow) -> str:
        return f"{self.name}: blob {row.blob_id.hex()[:16]} at {row.offset_bytes}"


PREFIX_BYTES = HEADER.size + SEALED_BYTES
"""So much of a pack's beginning is enough to open it."""


def pack_opener(name: str, prefix: bytes, bundle: Bundle) -> PackOpener:
    """Unlock a pack from its first ``PREFIX_BYTES`` (fewer in a tiny metadata pack).

    Raises:
        DamagedError: that is no pack.
        ReaderKeyNeededError: a data pack, and the bundle can only write.
    """
    kind, epoch, salt, header = _parse_header(name, prefix)
    keys = bundle.keys_of(epoch, name)
    if kind is PackKind.METADATA:
        return PackOpener(name, salt, AESGCM(_metadata_pack_key(keys.metadata_key, salt)))
    if keys.reader_private_key is None:
        raise ReaderKeyNeededError(
            "this credential can write, but not read what was written",
            hint="Unlock with a passphrase or the recovery key.",
        )
    private = X25519PrivateKey.from_private_bytes(keys.reader_private_key)
    sealed = prefix[HEADER.size : HEADER.size + SEALED_BYTES]
    try:
        key = _SUITE.decrypt(sealed, private, info=_SEAL_INFO + header)
    except (InvalidTag, ValueError) as error:
        raise DamagedError(f"{name}: its key cannot be unsealed") from error
    return PackOpener(name, salt, AESGCM(key))


def parse_trailer(name: str, trailer: bytes) -> int:
    """Length of the directory, from a pack's last ``TRAILER.size`` bytes."""
    if len(trailer) != TRAILER.size:
        raise DamagedError(f"{name}: is too short to be a pack")
    directory_bytes, magic = TRAILER.unpack(trailer)
    if magic != TRAILER_MAGIC or not TAG_BYTES <= directory_bytes <= MAX_PACK_BYTES:
        raise DamagedError(f"{name}: does not end like a pack")
    return int(directory_bytes)


def parse_directory(name: str, prefix: bytes, directory: bytes, bundle: Bundle) -> tuple[PackRow, ...]:
    """The rows of a pack, from its beginning and its still encrypted directory.

    Raises:
        DamagedError: they are not what was written.
    """
    _, epoch, salt, header = _parse_header(name, prefix)
    cipher = AESGCM(derive("directory", bundle.keys_of(epoch, name).metadata_key + salt))
    try:
        rows = cipher.decrypt(ZERO_NONCE, directory, header)
    except InvalidTag as error:
        raise DamagedError(f"{name}: its directory is damaged") from error
    if len(rows) % ROW.size:
        raise DamagedError(f"{name}: its directory is cut off")
    return tuple(_parse_rows(name, rows))


def split_pack(name: str, data: BytesLike, bundle: Bundle) -> tuple[bytes, tuple[PackRow, ...]]:
    """Beginning and rows of a whole pack in memory."""
    view = memoryview(data)
    directory_bytes = parse_trailer(name, bytes(view[-TRAILER.size :]))
    prefix = bytes(view[:PREFIX_BYTES])
    end = len(view) - TRAILER.size
    if directory_bytes > end - HEADER.size:
        raise DamagedError(f"{name}: its directory is longer than the pack")
    return prefix, parse_directory(name, prefix, bytes(view[end - directory_bytes : end]), bundle)


def read_blobs(
    name: str, data: BytesLike, bundle: Bundle
) -> Iterator[tuple[PackRow, BytesLike | DamagedError]]:
    """Every blob of a whole pack, or what is wrong with it."""
    prefix, rows = split_pack(name, data, bundle)
    opener = pack_opener(name, prefix, bundle)
    view = memoryview(data)
    for row in rows:
        stored = bytes(view[row.offset_bytes : row.offset_bytes + row.stored_bytes])
        try:
            yield row, opener.open(row, stored)
        except DamagedError as error:
            yield row, error


def _parse_header(name: str, prefix: bytes) -> tuple[PackKind, int, bytes, bytes]:
    if len(prefix) < HEADER.size:
        raise DamagedError(f"{name}: is too short to be a pack")
    magic, kind, zero, epoch, sealed_bytes, salt = HEADER.unpack_from(prefix)
    if magic != MAGIC or kind not in (PackKind.DATA, PackKind.METADATA) or zero:
        raise DamagedError(f"{name}: does not begin like a pack")
    if sealed_bytes != (SEALED_BYTES if kind == PackKind.DATA else 0):
        raise DamagedError(f"{name}: has a sealed key of {sealed_bytes} bytes")
    return PackKind(kind), epoch, salt, prefix[: HEADER.size]


def _parse_rows(name: str, rows: bytes) -> Iterator[PackRow]:
    for blob_id, kind, codec, _, offset_bytes, stored_bytes, length_bytes in ROW.iter_unpack(rows):
        if length_bytes > MAX_BLOB_BYTES or stored_bytes > length_bytes + MAX_BLOB_BYTES // 64:
            raise DamagedError(f"{name}: its directory names a blob of {length_bytes} bytes")
        try:
            yield PackRow(blob_id, BlobType(kind), Codec(codec), offset_bytes, stored_bytes, length_bytes)
        except ValueError as error:
            raise DamagedError(f"{name}: its directory holds a row of unknown kind ({error})") from error


def _metadata_pack_key(metadata_key: bytes, salt: bytes) -> bytes:
    return derive("metadata pack", metadata_key + salt)


def _aad(salt: bytes, row: PackRow) -> bytes:
    return salt + bytes((row.kind, row.codec)) + row.blob_id


def _nonce(offset_bytes: int) -> bytes:
    """A blob's offset is unique in its pack, and the pack's key is used for no other."""
    return offset_bytes.to_bytes(12, "little")
