"""What a run did, counted where it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields


@dataclass
class Statistics:
    """Bytes by their fate, and seconds by stage (summed over threads, so stages may exceed the wall clock).

    ``read_bytes``: what was read from the source. Of that, ``zero_bytes`` were zeros, ``unchanged_bytes``
    were the base's, ``found_bytes`` lay in the repository already, ``new_bytes`` were stored, in
    ``stored_bytes`` after compression and encryption. ``skipped_bytes`` were not read: the format's maps or
    change tracking vouch for them.
    """

    size_bytes: int = 0
    read_bytes: int = 0
    skipped_bytes: int = 0
    zero_bytes: int = 0
    unchanged_bytes: int = 0
    found_bytes: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    metadata_bytes: int = 0
    packs: int = 0
    read_s: float = 0.0
    hash_s: float = 0.0
    look_up_s: float = 0.0
    compress_s: float = 0.0
    encrypt_s: float = 0.0
    verify_s: float = 0.0
    write_s: float = 0.0
    wall_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, other: Statistics) -> None:
        """Fold in what another thread counted."""
        with self._lock:
            for item in fields(self):
                if not item.name.startswith("_"):
                    setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage; for one thread's own counters."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)

    def to_json(self) -> dict[str, int | float]:
        public = [item.name for item in fields(self) if not item.name.startswith("_")]
        values = {name: getattr(self, name) for name in public}
        return {
            name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()
        }
