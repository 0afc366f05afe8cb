"""The repository's ``config`` object: identity and parameters, readable by all, forgeable by none."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from blake3 import blake3

from stillframe.repository.errors import DamagedError, UnknownFeatureError, WrongKeyError
from stillframe.repository.keys import Bundle, derive

FORMAT = "stillframe 1"
CONFIG_NAME = "config"
KNOWN_FEATURES: frozenset[str] = frozenset()

MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = 64 << 10, 16 << 20
MIN_FAN_OUT, MAX_FAN_OUT = 2, 1024
MAX_PACK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of a repository, fixed at init."""

    repository_id: str
    created: str
    block_bytes: int = 1 << 20
    fan_out: int = 64
    pack_bytes: int = 32 << 20
    compression: str = "zstd:1"
    features: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"read": (), "write": (), "collect": ()}
    )

    def require(self, operation: str) -> None:
        """Refuse an operation that this version might do wrongly.

        Raises:
            UnknownFeatureError: the repository uses a feature that matters for it and is not known here.
        """
        unknown = set(self.features.get(operation, ())) - KNOWN_FEATURES
        if unknown:
            raise UnknownFeatureError(
                f"the repository needs {', '.join(sorted(unknown))} to {operation}",
                hint="Use a newer version of Stillframe.",
            )

    def to_bytes(self, bundle: Bundle) -> bytes:
        document = {
            "format": FORMAT,
            "repository_id": self.repository_id,
            "created": self.created,
            "block_bytes": self.block_bytes,
            "fan_out": self.fan_out,
            "pack_bytes": self.pack_bytes,
            "compression": self.compression,
            "features": {operation: list(names) for operation, names in self.features.items()},
        }
        line = json.dumps(document, separators=(",", ":")).encode()
        return _sealed(line, bundle)


def read_config(data: bytes) -> Config:
    """Parse ``config`` without a key; call ``verify_config`` before trusting it.

    Raises:
        DamagedError: it is not what init wrote.
        UnknownFeatureError: a format of the future.
    """
    try:
        document = json.loads(data.split(b"\n", 1)[0])
        if document["format"] != FORMAT:
            raise UnknownFeatureError(
                f"the repository has format {document['format']!r}; this version reads {FORMAT!r}",
                hint="Use a newer version of Stillframe.",
            )
        config = Config(
            document["repository_id"],
            document["created"],
            document["block_bytes"],
            document["fan_out"],
            document["pack_bytes"],
            document["compression"],
            {operation: tuple(names) for operation, names in document["features"].items()},
        )
        _check(config)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"config: is not a Stillframe repository's ({error})") from error
    return config


def verify_config(data: bytes, bundle: Bundle) -> None:
    """Make sure that ``config`` was written by a holder of the keys.

    Raises:
        WrongKeyError: it was not, or these keys are of another repository.
    """
    line = data.split(b"\n", 1)[0]
    if not hmac.compare_digest(_sealed(line, bundle), data):
        raise WrongKeyError(
            "config: its seal does not fit the keys; it was changed, or the keys are not its own"
        )


def _sealed(line: bytes, bundle: Bundle) -> bytes:
    seal = blake3(line, key=derive("config", bundle.keys_of(1, CONFIG_NAME).metadata_key)).hexdigest()
    return line + b"\n" + seal.encode() + b"\n"


def _check(config: Config) -> None:
    if len(bytes.fromhex(config.repository_id)) != 16:
        raise ValueError("repository_id")
    if not MIN_BLOCK_BYTES <= config.block_bytes <= MAX_BLOCK_BYTES or config.block_bytes % 4096:
        raise ValueError("block_bytes")
    if not MIN_FAN_OUT <= config.fan_out <= MAX_FAN_OUT:
        raise ValueError("fan_out")
    if not 0 < config.pack_bytes <= MAX_PACK_BYTES:
        raise ValueError("pack_bytes")
    compression_level(config.compression)


def compression_level(compression: str) -> int | None:
    """The zstd level that ``zstd:LEVEL`` names; None for ``none``."""
    if compression == "none":
        return None
    name, _, level = compression.partition(":")
    if name != "zstd" or not -50 <= int(level) <= 19:
        raise ValueError(f"compression {compression!r}")
    return int(level)
