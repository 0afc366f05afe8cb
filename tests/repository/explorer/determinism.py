"""What makes a run of production code a function of the storage's answers: no clock, no randomness.

Every actor has its own seeded entropy. Two things would still differ from run to run: the sealed key of a
data pack (HPKE takes its own randomness) and the time in a log entry. Both are replaced here, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from unittest.mock import patch

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from stillframe.repository import log, packs
from tests.repository.make import MOMENT

_RANDOM_BYTES = packs.SEALED_BYTES - 32


class TransparentSuite:
    """Seals a pack key by laying a mask over it that anybody could compute: exploring keeps no secrets."""

    def encrypt(self, key: bytes, public: X25519PublicKey, info: bytes) -> bytes:
        return blake3(info).digest(_RANDOM_BYTES) + self._masked(key, info)

    def decrypt(self, sealed: bytes, private: X25519PrivateKey, info: bytes) -> bytes:
        return self._masked(sealed[_RANDOM_BYTES:], info)

    def _masked(self, key: bytes, info: bytes) -> bytes:
        mask = blake3(info + b"mask").digest(len(key))
        return bytes(one ^ other for one, other in zip(key, mask, strict=True))


class StoppedClock(datetime):
    """Says the same time for ever; the protocol must not care."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> StoppedClock:
        return cls.fromtimestamp(MOMENT.timestamp(), tz)


@contextmanager
def deterministic() -> Iterator[None]:
    """Production code is deterministic inside."""
    with patch.object(packs, "_SUITE", TransparentSuite()), patch.object(log, "datetime", StoppedClock):
        yield
