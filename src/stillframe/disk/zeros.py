"""Finding the parts of a buffer that are not zero, at the speed of memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

STEP_BYTES = 64 << 10  # what is tested at once: the finest hole worth keeping
_WORD_BYTES = 8
_SAMPLE_WORDS = 4096 // _WORD_BYTES
_ZEROS = bytes(STEP_BYTES)

Buffer = bytearray | memoryview | bytes


def is_zero(buffer: Buffer) -> bool:
    """Whether all bytes are zero; what is not shows in its first bytes, mostly."""
    view = memoryview(buffer)
    return not any(view[:16]) and next(nonzero_runs(view), None) is None


def nonzero_runs(buffer: Buffer) -> Iterator[tuple[int, int]]:
    """``(start, stop)`` of the parts that hold anything, in steps of 64 KiB, neighbours joined."""
    view = memoryview(buffer)
    start: int | None = None
    for position, holds_data in zip(range(0, len(view), STEP_BYTES), _steps(view), strict=True):
        if not holds_data:
            if start is not None:
                yield start, position
                start = None
        elif start is None:
            start = position
    if start is not None:
        yield start, len(view)


def _steps(view: memoryview) -> Iterator[bool]:
    """For each step, whether it holds anything. One word of each page tells of most that do."""
    whole = len(view) // STEP_BYTES * STEP_BYTES
    words = np.frombuffer(view[:whole], np.uint64).reshape(-1, STEP_BYTES // _WORD_BYTES)
    sampled: list[bool] = np.any(words[:, ::_SAMPLE_WORDS], axis=1).tolist()
    for number, shows in enumerate(sampled):
        step = view[number * STEP_BYTES : (number + 1) * STEP_BYTES]
        # Copying into bytes first is right: comparing a memoryview goes byte by byte, ten times slower.
        yield shows or bytes(step) != _ZEROS
    if whole < len(view):
        yield any(view[whole:])
