"""The secrets of a repository and what is derived from them (format, sections 3 and 4)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from blake3 import blake3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from stillframe.repository.errors import DamagedError, UnknownFeatureError

KEY_BYTES = 32

Entropy = Callable[[int], bytes]
"""Gives so many random bytes; tests hand in a deterministic one."""


def derive(context: str, key: bytes) -> bytes:
    """BLAKE3's derive_key mode, with the format's prefix."""
    return blake3(key, derive_key_context=f"stillframe 1 {context}").digest()


@dataclass(frozen=True, slots=True)
class EpochKeys:
    """The keys of one epoch; ``reader_private_key`` is None for who may only write."""

    metadata_key: bytes = field(repr=False)
    reader_public_key: bytes
    reader_private_key: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Bundle:
    """All secrets of a repository, as far as their holder has them."""

    id_key: bytes = field(repr=False)
    epochs: Mapping[int, EpochKeys]

    @classmethod
    def generate(cls, entropy: Entropy = os.urandom) -> Bundle:
        private = X25519PrivateKey.from_private_bytes(entropy(KEY_BYTES))
        public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        epoch = EpochKeys(entropy(KEY_BYTES), public, private.private_bytes_raw())
        return cls(entropy(KEY_BYTES), {1: epoch})

    @cached_property
    def epoch(self) -> int:
        """The epoch that new objects use."""
        return max(self.epochs)

    @property
    def can_read(self) -> bool:
        return self.epochs[self.epoch].reader_private_key is not None

    def keys_of(self, epoch: int, origin: str) -> EpochKeys:
        """The keys of an epoch that an object names; ``origin`` names the object.

        Raises:
            UnknownFeatureError: this credential is older than the object, or its header is damaged.
        """
        try:
            return self.epochs[epoch]
        except KeyError:
            raise UnknownFeatureError(
                f"{origin}: uses key epoch {epoch}, which this credential does not have",
                hint="Unlock with a passphrase, or export the credential again. If that does not help, the "
                "object is damaged.",
            ) from None

    def without_reader_keys(self) -> Bundle:
        """What a host gets that may write and not read."""
        epochs = {
            number: EpochKeys(keys.metadata_key, keys.reader_public_key, None)
            for number, keys in self.epochs.items()
        }
        return Bundle(self.id_key, epochs)

    def to_json(self) -> dict[str, object]:
        return {
            "id_key": self.id_key.hex(),
            "epochs": {
                str(number): {
                    "metadata_key": keys.metadata_key.hex(),
                    "reader_public_key": keys.reader_public_key.hex(),
                    "reader_private_key": keys.reader_private_key.hex() if keys.reader_private_key else None,
                }
                for number, keys in self.epochs.items()
            },
        }

    def to_bytes(self) -> bytes:
        return json.dumps(self.to_json(), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes, origin: str) -> Bundle:
        """Read a bundle.

        Raises:
            DamagedError: ``data`` is no bundle; ``origin`` names it.
        """
        try:
            document = json.loads(data)
            epochs = {
                int(number): EpochKeys(
                    _key(keys["metadata_key"]),
                    _key(keys["reader_public_key"]),
                    _key(keys["reader_private_key"]) if keys["reader_private_key"] else None,
                )
                for number, keys in document["epochs"].items()
            }
            bundle = cls(_key(document["id_key"]), epochs)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{origin}: holds no keys ({error})") from error
        if not epochs:
            raise DamagedError(f"{origin}: holds no keys (no epoch)")
        return bundle


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError("a key of the wrong length")
    return key
