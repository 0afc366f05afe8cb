"""A small cache of map pages (BAT and sector bitmaps), shared by all files of a chain.

The map of a 64 TiB disk has 513 MiB; it is never held whole.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.vhdx.layout import KIB

PAGE_BYTES = 64 * KIB
_CAPACITY_PAGES = 128


class MapPages:
    """The most recently used pages. Safe to use from several threads at once."""

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = Lock()

    def read(self, reader: RandomReader, offset_bytes: int, length_bytes: int) -> bytes:
        """A piece of a map that begins on a whole page, as all maps in a VHDX file do."""
        end_bytes = offset_bytes + length_bytes
        first = offset_bytes // PAGE_BYTES * PAGE_BYTES
        pages = b"".join(self._page(reader, at) for at in range(first, end_bytes, PAGE_BYTES))
        return pages[offset_bytes - first : end_bytes - first]

    def _page(self, reader: RandomReader, offset_bytes: int) -> bytes:
        key = id(reader), offset_bytes
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        page = read_bytes(reader, offset_bytes, PAGE_BYTES)
        with self._lock:
            self._pages[key] = page
            if len(self._pages) > _CAPACITY_PAGES:
                self._pages.popitem(last=False)
        return page
