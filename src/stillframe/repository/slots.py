"""Key slots: the bundle, sealed under a passphrase or a printed recovery key (format, section 3)."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from stillframe.repository.errors import DamagedError, WrongKeyError
from stillframe.repository.keys import Bundle, Entropy, derive

PASSPHRASE = "passphrase"  # noqa: S105 (the name of a kind)
RECOVERY = "recovery"

# 64 MiB, 3 passes, 4 lanes: the second recommendation of RFC 9106, section 4.
_MEMORY_KIB, _ITERATIONS, _LANES = 65536, 3, 4
# A slot is read before anything is authenticated: bound what it may make this machine do.
_MAX_MEMORY_KIB, _MAX_ITERATIONS, _MAX_LANES = 4 << 20, 64, 64
_CHECK_BYTES = 3


@dataclass(frozen=True, slots=True)
class Slot:
    """One way to unlock a repository, as stored."""

    slot_id: str
    repository_id: str
    kind: str
    label: str
    created: str
    kdf: dict[str, Any]
    sealed: bytes

    @property
    def object_name(self) -> str:
        return f"keys/{self.slot_id}"

    def to_bytes(self) -> bytes:
        document = {
            "slot": self.slot_id,
            "repository_id": self.repository_id,
            "kind": self.kind,
            "label": self.label,
            "created": self.created,
            "kdf": self.kdf,
            "sealed": self.sealed.hex(),
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Slot:
        try:
            document = json.loads(data)
            slot = cls(
                document["slot"],
                document["repository_id"],
                document["kind"],
                str(document["label"]),
                str(document["created"]),
                dict(document["kdf"]),
                bytes.fromhex(document["sealed"]),
            )
            slot._aad()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"{name}: is no key slot ({error})") from error
        if slot.object_name != name:
            raise DamagedError(f"{name}: is a copy of the key slot {slot.object_name}")
        return slot

    def _aad(self) -> bytes:
        return b"stillframe 1 slot" + bytes.fromhex(self.repository_id) + bytes.fromhex(self.slot_id)

    def unlock(self, secret: str) -> Bundle:
        """Open the slot with a passphrase or a recovery key, according to its kind.

        Raises:
            WrongKeyError: it does not open.
        """
        if self.kind == PASSPHRASE:
            wrapping_key = _passphrase_key(secret, self.kdf, self.object_name)
        elif self.kind == RECOVERY:
            wrapping_key = _recovery_wrapping_key(parse_recovery_key(secret), self.kdf)
        else:
            raise WrongKeyError(f"{self.object_name}: a slot of unknown kind {self.kind!r}")
        try:
            plain = AESGCM(wrapping_key).decrypt(self.sealed[:12], self.sealed[12:], self._aad())
        except (InvalidTag, ValueError):
            raise WrongKeyError(f"{self.object_name}: the key does not open this slot") from None
        return Bundle.from_bytes(plain, self.object_name)


def seal_with_passphrase(
    bundle: Bundle,
    repository_id: str,
    passphrase: str,
    *,
    label: str,
    created: str,
    entropy: Entropy = os.urandom,
) -> Slot:
    kdf = {
        "name": "argon2id",
        "salt": entropy(16).hex(),
        "memory_kib": _MEMORY_KIB,
        "iterations": _ITERATIONS,
        "lanes": _LANES,
    }
    return _seal(bundle, repository_id, PASSPHRASE, label, created, kdf, passphrase, entropy)


def seal_with_recovery_key(
    bundle: Bundle, repository_id: str, *, label: str, created: str, entropy: Entropy = os.urandom
) -> tuple[Slot, str]:
    """A slot under a fresh recovery key, and that key as it is to be printed."""
    printed = format_recovery_key(entropy(32))
    kdf = {"name": "blake3", "salt": entropy(16).hex()}
    return _seal(bundle, repository_id, RECOVERY, label, created, kdf, printed, entropy), printed


def _seal(
    bundle: Bundle,
    repository_id: str,
    kind: str,
    label: str,
    created: str,
    kdf: dict[str, Any],
    secret: str,
    entropy: Entropy,
) -> Slot:
    empty = Slot(entropy(8).hex(), repository_id, kind, label, created, kdf, b"")
    if kind == PASSPHRASE:
        wrapping_key = _passphrase_key(secret, kdf, empty.object_name)
    else:
        wrapping_key = _recovery_wrapping_key(parse_recovery_key(secret), kdf)
    nonce = entropy(12)
    sealed = nonce + AESGCM(wrapping_key).encrypt(nonce, bundle.to_bytes(), empty._aad())
    return Slot(empty.slot_id, repository_id, kind, label, created, kdf, sealed)


def _passphrase_key(passphrase: str, kdf: dict[str, Any], name: str) -> bytes:
    try:
        memory_kib, iterations, lanes = int(kdf["memory_kib"]), int(kdf["iterations"]), int(kdf["lanes"])
        if memory_kib > _MAX_MEMORY_KIB or iterations > _MAX_ITERATIONS or lanes > _MAX_LANES:
            raise DamagedError(f"{name}: asks for more work than any slot is allowed to")
        salt = bytes.fromhex(kdf["salt"])
        argon2 = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DamagedError(f"{name}: has unusable parameters ({error})") from error
    return argon2.derive(_utf8(passphrase))


def _utf8(passphrase: str) -> bytes:
    try:
        return passphrase.encode()
    except UnicodeEncodeError as error:
        raise WrongKeyError(
            "the passphrase is not valid UTF-8", hint="Check the terminal's locale."
        ) from error


def _recovery_wrapping_key(recovery_key: bytes, kdf: dict[str, Any]) -> bytes:
    try:
        salt = bytes.fromhex(kdf["salt"])
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedError(f"a recovery slot has unusable parameters ({error})") from error
    return derive("recovery slot", recovery_key + salt)


def format_recovery_key(key: bytes) -> str:
    """As it is printed: 56 characters in groups of four, the last three bytes against typing errors."""
    text = base64.b32encode(key + blake3(key).digest()[:_CHECK_BYTES]).decode()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def looks_like_recovery_key(text: str) -> bool:
    return re.fullmatch(r"[A-Z2-7]{56}", _normalised(text)) is not None


def parse_recovery_key(text: str) -> bytes:
    """The key behind its printed form.

    Raises:
        WrongKeyError: it was mistyped, or is none.
    """
    if not looks_like_recovery_key(text):
        raise WrongKeyError("that is no recovery key: 56 letters and digits in groups of four were expected")
    decoded = base64.b32decode(_normalised(text))
    key, check = decoded[:-_CHECK_BYTES], decoded[-_CHECK_BYTES:]
    if blake3(key).digest()[:_CHECK_BYTES] != check:
        raise WrongKeyError("the recovery key is mistyped: its check characters do not fit")
    return key


def _normalised(text: str) -> str:
    return re.sub(r"[\s-]", "", text).upper()
