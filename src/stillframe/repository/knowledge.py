"""What one process knows of a repository: the log, and the index behind its live segments."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from stillframe.repository.blobs import IdKeys
from stillframe.repository.config import Config
from stillframe.repository.entries import EntrySealer
from stillframe.repository.errors import DamagedError
from stillframe.repository.keys import Bundle, Entropy
from stillframe.repository.log import LogView
from stillframe.repository.operations import Get, Steps
from stillframe.repository.state import State
from stillframe.repository.storage.base import ObjectMissingError

if TYPE_CHECKING:
    from stillframe.repository.index import Index
    from stillframe.repository.segment_cache import SegmentCache
    from stillframe.repository.segments import Segment


class Knowledge:
    """Log and index of a repository as one process sees them; ``refresh`` brings both up to date.

    The index is arrays, and numpy takes as long to import as a small repository's log to read: nothing here
    imports it before the index is asked for.

    Generators that advance it are driven under ``lock``, one at a time.
    """

    def __init__(self, config: Config, bundle: Bundle, entropy: Entropy = os.urandom) -> None:
        self.config = config
        self.bundle = bundle
        self.entropy = entropy
        self.ids = IdKeys(bundle.id_key)
        self.log = LogView(EntrySealer(bundle, config.repository_id, entropy))
        self.lock = threading.RLock()
        self._index: Index | None = None
        self.cache: SegmentCache | None = None

    @property
    def state(self) -> State:
        return self.log.state

    @property
    def index(self) -> Index:
        """The index as of the last ``load_segments``; empty before."""
        if self._index is None:
            from stillframe.repository.index import Index

            self._index = Index({})
        return self._index

    def refresh(self) -> Steps[None]:
        """Read the log to its end, then the segments that are new."""
        if self.state.number:
            yield from self.log.catch_up()
        else:
            yield from self.log.open()
        yield from self.load_segments()

    def load_segments(self) -> Steps[None]:
        """Make ``index`` that of the state's live segments.

        Raises:
            DamagedError: a live segment is lost or damaged.
        """
        from stillframe.repository.index import Index

        while self.index.segments.keys() != self.state.segments.keys():
            segments = {
                name: segment for name, segment in self.index.segments.items() if name in self.state.segments
            }
            for name in [name for name in self.state.segments if name not in segments]:
                try:
                    segments[name] = yield from self._load_segment(name)
                except ObjectMissingError:
                    yield from self._explain_missing(name)
                    break
            self._index = Index(segments)

    def _load_segment(self, name: str) -> Steps[Segment]:
        from stillframe.repository.segments import decode_segment

        cached = self.cache.load(name) if self.cache else None
        if cached is not None:
            return cached
        data: bytes = yield Get(name)
        segment = decode_segment(name, data, self.bundle)
        if self.cache:
            self.cache.save(name, segment)
            self.cache.keep_only(self.state.segments)
        return segment

    def _explain_missing(self, name: str) -> Steps[None]:
        """A segment may be gone because a newer entry dropped it; if not, it is lost."""
        yield from self.log.catch_up()
        if name in self.state.segments:
            raise DamagedError(
                f"{name}: the log names this index segment, but the storage does not have it",
                hint="Mend it: stillframe repo repair --index",
            )
