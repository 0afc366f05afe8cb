"""What every storage offers: names and bytes, put once, never changed.

The semantics are section 1 of the repository format: a put is atomic, durable when it returns, and refuses
to replace; a listing is a hint; *missing* and *failed* are different answers and are never confused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from stillframe.errors import CorruptInputError, StillframeError

_PART = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_MAX_PARTS = 4


class StorageError(StillframeError):
    """The storage failed to answer; nothing may be concluded from that."""

    exit_code = 6


class ObjectMissingError(StorageError):
    """The storage answered, and the object is not there."""


class ObjectCutOffError(StorageError):
    """The storage answered, and the object ends before the range that was asked for: it is damaged."""

    exit_code = CorruptInputError.exit_code


def is_name(text: str) -> bool:
    """Whether an object could have this name (format, section 1)."""
    parts = text.split("/")
    return len(parts) <= _MAX_PARTS and all(_PART.fullmatch(part) for part in parts)


def check_name(name: str) -> str:
    """The name itself, if it is one (format, section 1).

    Raises:
        ValueError: it is not; names come from this program, so this is a defect, not bad input.
    """
    if not is_name(name):
        raise ValueError(f"not an object name: {name!r}")
    return name


class Storage(Protocol):
    """Where a repository keeps its objects. All methods may be called from several threads and processes."""

    @property
    def location(self) -> str:
        """How to call this storage in messages."""

    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        """Store an object, durable on return; False if the name is taken already (nothing is changed then).

        Raises:
            StorageError: it may or may not have happened.
        """

    def get(self, name: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: there is none of that name.
            StorageError: no answer.
        """

    def get_range(self, name: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Exactly this range of an object; raises as ``get``, and ObjectCutOffError if it is shorter."""

    def size(self, name: str) -> int:
        """Length of an object in bytes; raises as ``get``."""

    def list(self, prefix: str) -> Iterator[str]:
        """Names that begin with ``prefix`` (a folder name with its slash, or empty), in any order.

        Objects put or deleted meanwhile may or may not be seen.
        """

    def delete(self, name: str) -> None:
        """Remove an object; no error if it is gone already."""

    def close(self) -> None: ...
