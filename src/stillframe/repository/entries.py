"""Log entries and checkpoints: sealed JSON documents under a number (format, section 8)."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stillframe.repository.errors import DamagedError
from stillframe.repository.keys import Bundle, Entropy, derive
from stillframe.repository.zstandard import zstd

ENTRY_MAGIC, CHECKPOINT_MAGIC = b"SFLOG001", b"SFCKPT01"
NO_PREVIOUS = bytes(32)
LOG_FOLDER, CHECKPOINT_FOLDER = "log/", "checkpoint/"
ENTRIES_PER_SHARD = 1000
MAX_ENTRY_BYTES = 1 << 30  # decompressed; a checkpoint of a million points stays below

_HEADER = struct.Struct("<8sHH12s")
_NUMBER = struct.Struct("<Q")


def entry_folder(number: int) -> str:
    return f"{LOG_FOLDER}{number // ENTRIES_PER_SHARD:08}/"


def entry_name(number: int) -> str:
    return f"{entry_folder(number)}{number:020}"


def number_of(name: str) -> int:
    """The number in the name of an entry or checkpoint; 0 if there is none."""
    number = name.rpartition("/")[2]
    return int(number) if number.isdecimal() else 0


def checkpoint_name(number: int) -> str:
    return f"{CHECKPOINT_FOLDER}{number:020}"


def checkpoint_number(name: str) -> int | None:
    """The number in a checkpoint's name; None if that is not how checkpoints are named."""
    digits = name.removeprefix(CHECKPOINT_FOLDER)
    return int(digits) if digits.isdecimal() and checkpoint_name(int(digits)) == name else None


def entry_hash(data: bytes) -> bytes:
    """What the next entry calls ``previous``."""
    return blake3(data).digest()


class EntrySealer:
    """Seals and opens entries of one repository."""

    def __init__(self, bundle: Bundle, repository_id: str, entropy: Entropy = os.urandom) -> None:
        self._bundle = bundle
        self._repository_id = bytes.fromhex(repository_id)
        self._entropy = entropy

    def seal(self, magic: bytes, number: int, document: dict[str, Any]) -> bytes:
        header = _HEADER.pack(magic, self._bundle.epoch, 0, self._entropy(12))
        plain = zstd.compress(json.dumps(document, separators=(",", ":")).encode(), 3)
        cipher = self._cipher(self._bundle.epoch, "a new entry")
        return header + cipher.encrypt(header[-12:], plain, self._aad(header, number))

    def open(self, magic: bytes, number: int, data: bytes, name: str) -> dict[str, Any]:
        """The document of an entry.

        Raises:
            DamagedError: it is not what was written, or not under this number.
        """
        if len(data) < _HEADER.size or not data.startswith(magic):
            raise DamagedError(f"{name}: does not begin like an entry of this repository")
        header = data[: _HEADER.size]
        _, epoch, _, nonce = _HEADER.unpack(header)
        try:
            plain = self._cipher(epoch, name).decrypt(nonce, data[_HEADER.size :], self._aad(header, number))
            size_bytes = zstd.get_frame_info(plain).decompressed_size
            if size_bytes is None or size_bytes > MAX_ENTRY_BYTES:
                raise DamagedError(f"{name}: is larger than an entry can be")
            document = json.loads(zstd.decompress(plain))
        except (InvalidTag, zstd.ZstdError, ValueError) as error:
            raise DamagedError(f"{name}: is damaged") from error
        if not isinstance(document, dict):
            raise DamagedError(f"{name}: is no entry")
        return document

    def _cipher(self, epoch: int, name: str) -> AESGCM:
        return AESGCM(derive("log", self._bundle.keys_of(epoch, name).metadata_key))

    def _aad(self, header: bytes, number: int) -> bytes:
        return header + self._repository_id + _NUMBER.pack(number)
