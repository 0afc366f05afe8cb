"""Searching ids in numpy: sorted tables of shape (rows, 32), in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stillframe.repository.blobs import ID_BYTES

Ids = NDArray[np.uint8]
"""Shape (rows, 32)."""


def ids_array(ids: Sequence[bytes]) -> Ids:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(len(ids), ID_BYTES)


def _words(ids: Ids) -> NDArray[np.uint64]:
    return np.ascontiguousarray(ids).view(">u8").reshape(len(ids), 4)


def prefixes_of(ids: Ids) -> NDArray[np.uint64]:
    """The first eight bytes as numbers that sort as the ids do."""
    return _words(ids)[:, 0].astype(np.uint64)


def id_order(ids: Ids) -> NDArray[np.intp]:
    """The order that sorts ids as byte strings; equal ids keep theirs."""
    words = _words(ids)
    return np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))


def first_of_each(ordered: Ids) -> NDArray[np.bool_]:
    """In sorted ids: True at the first of each run of equal ones."""
    if not len(ordered):
        return np.zeros(0, bool)
    return np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])


def sorted_unique(ids: Ids) -> Ids:
    ordered = np.ascontiguousarray(ids[id_order(ids)])
    return ordered[first_of_each(ordered)]


def find_rows(table: Ids, table_prefixes: NDArray[np.uint64], keys: Ids) -> NDArray[np.int64]:
    """Row of each key in a sorted table, -1 where there is none; of equal rows, the first."""
    found = np.full(len(keys), -1, np.int64)
    prefixes = prefixes_of(keys)
    position = np.searchsorted(table_prefixes, prefixes)
    open_keys = np.arange(len(keys))
    while len(open_keys):
        inside = position < len(table)
        open_keys, position = open_keys[inside], position[inside]
        same = table_prefixes[position] == prefixes[open_keys]
        open_keys, position = open_keys[same], position[same]
        hit = (table[position] == keys[open_keys]).all(axis=1)
        found[open_keys[hit]] = position[hit]
        # Another id with the same first eight bytes: look at its neighbour.
        open_keys, position = open_keys[~hit], position[~hit] + 1
    return found


def contained(ids: Ids, among: Ids) -> NDArray[np.bool_]:
    """For each id, whether it is among sorted ids."""
    return find_rows(among, prefixes_of(among), ids) >= 0
