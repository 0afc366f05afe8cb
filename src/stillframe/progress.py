"""How long work reports its progress without knowing who looks."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the state of one job; methods are cheap and may be called from any thread."""

    def begin(self, description: str, total_bytes: int | None) -> None:
        """A new stage of the job begins; ``total_bytes`` is None where it is not known."""

    def advance(self, done_bytes: int) -> None:
        """This many more bytes of the stage are done."""


class NoProgress:
    """For callers that do not look."""

    def begin(self, description: str, total_bytes: int | None) -> None:
        del description, total_bytes

    def advance(self, done_bytes: int) -> None:
        del done_bytes
