"""Runs of equal flags (small whole numbers) in block tables and bitmaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def runs(flags: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> Iterator[tuple[int, int, int]]:
    """``(start, stop, flag)`` of each run of equal flags, in order, covering the whole array."""
    if not flags.size:
        return
    start = 0
    for change in np.flatnonzero(flags[1:] != flags[:-1]):
        stop = int(change) + 1
        yield start, stop, int(flags[start])
        start = stop
    yield start, len(flags), int(flags[start])
