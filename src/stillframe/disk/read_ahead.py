"""Reading pieces of disks on threads, ahead of whoever takes them in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from stillframe.disk.still import Extent
from stillframe.memory import keep_freed_memory

PIECE_BYTES = 1 << 20
_THREADS = 4
_PIECES_AHEAD = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def pieces(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Cut extents at the multiples of 1 MiB, so that none is longer."""
    for extent in extents:
        position = extent.offset_bytes
        while position < extent.end_bytes:
            end = min((position // PIECE_BYTES + 1) * PIECE_BYTES, extent.end_bytes)
            yield Extent(position, end - position, extent.kind)
            position = end


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """``work`` on each item on threads, at most 16 items ahead; results in the items' order.

    An error in ``work`` is raised when its item's turn comes; no further item is begun after it.
    """
    keep_freed_memory()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="read-ahead") as pool:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= _PIECES_AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
