"""Finding the parts of a buffer that are not zero, at the speed of memory."""

from __future__ import annotations

from collections.abc import Iterator

STEP_BYTES = 64 << 10  # what is tested at once: the finest hole worth keeping
_ZEROS = bytes(STEP_BYTES)


def is_zero(buffer: bytearray | memoryview | bytes) -> bool:
    """Whether all bytes are zero; what is not shows in its first bytes, mostly."""
    view = memoryview(buffer)
    return not any(view[:16]) and all(
        _is_zero_step(view[position : position + STEP_BYTES]) for position in range(0, len(view), STEP_BYTES)
    )


def _is_zero_step(step: memoryview) -> bool:
    # Copying into bytes first is right: comparing a memoryview goes byte by byte, ten times slower.
    return bytes(step) == (_ZEROS if len(step) == STEP_BYTES else bytes(len(step)))


def nonzero_runs(buffer: bytearray | memoryview | bytes) -> Iterator[tuple[int, int]]:
    """``(start, stop)`` of the parts that hold anything, in steps of 64 KiB, neighbours joined."""
    view = memoryview(buffer)
    start: int | None = None
    for position in range(0, len(view), STEP_BYTES):
        if _is_zero_step(view[position : position + STEP_BYTES]):
            if start is not None:
                yield start, position
                start = None
        elif start is None:
            start = position
    if start is not None:
        yield start, len(view)
