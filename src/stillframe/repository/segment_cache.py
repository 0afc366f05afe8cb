"""Large index segments, decrypted and mapped into memory from this machine's cache folder.

A repository of 10 TiB has some 500 MB of index; an increment looks at a few hundred rows of it. Cached, the
kernel reads just those pages. The cache says nothing about guest data (ids are keyed) and is never trusted:
each file ends with a keyed hash over its segment's name and contents that is verified when it is opened.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from stillframe.repository.idsearch import prefixes_of
from stillframe.repository.keys import derive
from stillframe.repository.segments import Segment, parse_payload, segment_payload

CACHED_ROWS = 1 << 15
"""Smaller segments are read from the repository: they cost less than a file here."""

_SEAL_BYTES = 32
_READ_BYTES = 4 << 20


class SegmentCache:
    """One repository's cache folder; it may be deleted at any time."""

    def __init__(self, folder: Path, metadata_key: bytes) -> None:
        self._folder = folder
        self._key = derive("segment cache", metadata_key)

    def load(self, name: str) -> Segment | None:
        """A segment, if it is cached and intact."""
        try:
            with self._path(name).open("rb") as file:
                length_bytes = os.fstat(file.fileno()).st_size - _SEAL_BYTES
                if length_bytes <= 0 or not self._is_intact(name, file.fileno(), length_bytes):
                    return None
                mapped = mmap.mmap(file.fileno(), length_bytes, access=mmap.ACCESS_READ)
        except OSError:
            return None  # not there, or not to be had: the repository has it
        return parse_payload(name, mapped, with_prefixes=True)

    def save(self, name: str, segment: Segment) -> None:
        """Keep a segment if it is large enough. That it cannot be kept is no error: it will be read again."""
        if len(segment) < CACHED_ROWS:
            return
        path = self._path(name)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        parts = [*segment_payload(segment), prefixes_of(segment.ids).tobytes()]
        hasher = blake3(name.encode(), key=self._key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with temporary.open("wb") as file:
                for part in parts:
                    hasher.update(part)
                    file.write(part)
                file.write(hasher.digest())
            temporary.rename(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()

    def keep_only(self, names: Collection[str]) -> None:
        """Delete what is no live segment any more."""
        wanted = {self._path(name).name for name in names}
        try:
            for path in self._folder.iterdir():
                if path.name not in wanted:
                    path.unlink(missing_ok=True)
        except OSError:
            return

    def _path(self, name: str) -> Path:
        return self._folder / name.rpartition("/")[2]

    def _is_intact(self, name: str, descriptor: int, length_bytes: int) -> bool:
        """Read through a small buffer, so that the pages of the map stay untouched."""
        hasher = blake3(name.encode(), key=self._key)
        buffer = memoryview(bytearray(_READ_BYTES))
        position = 0
        while position < length_bytes:
            count = os.preadv(descriptor, [buffer[: min(_READ_BYTES, length_bytes - position)]], position)
            if not count:
                return False
            hasher.update(buffer[:count])
            position += count
        return hasher.digest() == os.pread(descriptor, _SEAL_BYTES, length_bytes)


def default_cache_folder(repository_id: str) -> Path | None:
    """Where this machine caches a repository's index; None if STILLFRAME_CACHE is ``none``."""
    chosen = os.environ.get("STILLFRAME_CACHE", "")
    if chosen == "none":
        return None
    if chosen:
        return Path(chosen) / repository_id
    from platformdirs import user_cache_path

    return user_cache_path("stillframe") / repository_id
