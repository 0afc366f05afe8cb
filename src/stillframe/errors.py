"""The errors a user can meet: each says what happened, to what, and what to do next.

Every room derives its own from these, so that the command line can turn any of them into one clear
line and an exit code, and nothing else needs a broad ``except``.
"""

from __future__ import annotations

from typing import ClassVar


class StillframeError(Exception):
    """Something that the user can act on.

    ``hint`` is a sentence that says what to do next; it may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(StillframeError):
    """The command or call asks for something that cannot be meant."""

    exit_code = 2


class CorruptInputError(StillframeError):
    """A file breaks the rules of its format, or was damaged; nothing read from it may be trusted."""

    exit_code = 4


class UnsupportedError(StillframeError):
    """The input is well-formed, but this program (or this machine) cannot handle it."""

    exit_code = 5
