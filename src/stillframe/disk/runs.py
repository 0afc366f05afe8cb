"""Runs of equal flags in block tables and bitmaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def runs(flags: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, bool]]:
    """``(start, stop, flag)`` of each run, in order, covering the whole array."""
    if not flags.size:
        return
    start, flag = 0, bool(flags[0])
    for change in np.flatnonzero(flags[1:] != flags[:-1]):
        stop = int(change) + 1
        yield start, stop, flag
        start, flag = stop, not flag
    yield start, len(flags), flag
