"""Reading the commit log and adding to it (format, sections 2 and 8)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from stillframe import __version__
from stillframe.repository.entries import (
    CHECKPOINT_FOLDER,
    CHECKPOINT_MAGIC,
    ENTRY_MAGIC,
    EntrySealer,
    checkpoint_name,
    checkpoint_number,
    entry_hash,
    entry_name,
)
from stillframe.repository.errors import DamagedError, UnknownFeatureError
from stillframe.repository.operations import Get, ListNames, Put, Steps, put_own
from stillframe.repository.points import format_time
from stillframe.repository.state import State
from stillframe.repository.storage.base import ObjectMissingError, StorageError

CHECKPOINT_EVERY = 256

Entry = dict[str, Any]
Build = Callable[[], Steps[Entry | None]]
"""Makes the entry to add, right after everything that the view knows by now; None if it is there already.

It raises (a ConflictError, usually) where no such entry can be right any more.
"""


class LogView:
    """What one process knows of the log."""

    def __init__(self, sealer: EntrySealer) -> None:
        self._sealer = sealer
        self.state = State()
        self._is_open = False
        self._deletions: list[tuple[int, frozenset[str]]] = []

    def deleted_since(self, number: int) -> frozenset[str]:
        """Names of the objects that entries after ``number`` deleted; only for numbers this view has seen."""
        return frozenset().union(*(names for entry, names in self._deletions if entry > number))

    def open(self) -> Steps[None]:
        """Read everything.

        A checkpoint stands for the entries before it only the first time: later it would hide the deletions
        among them from ``deleted_since``.
        """
        if not self._is_open:
            self.state = yield from self._newest_checkpoint()
            self._is_open = True
        yield from self.catch_up()

    def _newest_checkpoint(self) -> Steps[State]:
        """Checkpoints only save time: one that cannot be used costs reading more entries."""
        names: list[str] = yield ListNames(CHECKPOINT_FOLDER)
        for name in sorted(names, reverse=True):
            number = checkpoint_number(name)
            if number is None:
                continue
            try:
                data: bytes = yield Get(name)
                return State.from_json(self._sealer.open(CHECKPOINT_MAGIC, number, data, name), name)
            except (StorageError, DamagedError, UnknownFeatureError):
                continue
        return State()

    def catch_up(self) -> Steps[None]:
        """Read to the end of the log.

        Only the storage's answer that entry N+1 is not there ends the log. Any other failure is raised.
        """
        while True:
            number = self.state.number + 1
            name = entry_name(number)
            try:
                data: bytes = yield Get(name)
            except ObjectMissingError:
                return
            self._apply(number, data, self._sealer.open(ENTRY_MAGIC, number, data, name))

    def _apply(self, number: int, data: bytes, entry: Entry) -> None:
        self.state.apply(number, entry_hash(data), entry)
        self._note_deletions(number, entry)

    def _note_deletions(self, number: int, entry: Entry) -> None:
        if entry.get("kind") == "rewrite":
            self._deletions.append((number, frozenset(entry["delete"])))

    def append(self, build: Build) -> Steps[int]:
        """Add one entry; its number is the result (format, section 2, law 3), or the last if none is needed.

        Raises:
            DamagedError: readers would refuse such an entry for ever, so it is not written.
        """
        yield from self.catch_up()
        while True:
            known = self.state.number
            entry = yield from build()
            if self.state.number != known:
                continue  # build had to read on, so what it made sure of first may not hold any more
            if entry is None:
                return known
            number = known + 1
            document = {
                **entry,
                "previous": self.state.last_hash.hex(),
                "written": format_time(datetime.now(UTC)),
                "software": __version__,
            }
            data = self._sealer.seal(ENTRY_MAGIC, number, document)
            after = self.state.copy()
            after.apply(number, entry_hash(data), document)
            if (yield from put_own(entry_name(number), data)):
                self.state = after
                self._note_deletions(number, document)
                if number % CHECKPOINT_EVERY == 0:
                    yield from self.write_checkpoint()
                return number
            yield from self.catch_up()

    def write_checkpoint(self) -> Steps[None]:
        """Keep the folded state. It is a cache: that it could not be written harms nobody and is no error."""
        number = self.state.number
        try:
            yield Put(
                checkpoint_name(number), self._sealer.seal(CHECKPOINT_MAGIC, number, self.state.to_json())
            )
        except StorageError:
            return
