"""What a fan-out costs, computed from the repository format: the nodes that a few changes write anew.

The disk is full, its ids are as incompressible as random bytes; places are drawn by a seed. Counted is every
node on the way from a changed block to the root, with its tag and its rows in directory and index.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PIECE_BYTES = 64 * 1024
HEADER_BYTES = 4
REFERENCE_BYTES = 33
PIECES_BYTES = 1 + 1 + 32 + 1 + 44
"""An entry of one piece over a base that is a reference."""
KEEPING_BYTES = 16 + 48 + 50
"""Of a node in a pack: tag, row of the directory, row of the index segment."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a tree: ``nodes`` and ``tree_bytes`` of all of it; what the changes write anew."""

    height: int
    nodes: int
    tree_bytes: int
    written_nodes: int
    written_bytes: int


def cost(disk_bytes: int, block_bytes: int, fan_out: int, changes: int, seed: int) -> Cost:
    """Cost of ``changes`` pieces of 64 KiB at random places of a full disk."""
    blocks = -(-disk_bytes // block_bytes)
    places = np.random.default_rng(seed).choice(disk_bytes // PIECE_BYTES, changes, replace=False)
    touched = np.unique(places * PIECE_BYTES // block_bytes)
    widths = _widths(blocks, fan_out)
    written_bytes = len(touched) * (PIECES_BYTES - REFERENCE_BYTES)
    written_nodes = 0
    children = blocks
    for width in widths:
        touched = np.unique(touched // fan_out)
        written_nodes += len(touched)
        written_bytes += int(_node_bytes(touched, children, fan_out).sum())
        children = width
    tree_bytes = sum(widths) * (HEADER_BYTES + KEEPING_BYTES) + (blocks + sum(widths) - 1) * REFERENCE_BYTES
    return Cost(len(widths) - 1, sum(widths), tree_bytes, written_nodes, written_bytes)


def _widths(blocks: int, fan_out: int) -> list[int]:
    """Number of nodes at each height, up to the root."""
    widths = [-(-blocks // fan_out)]
    while widths[-1] > 1:
        widths.append(-(-widths[-1] // fan_out))
    return widths


def _node_bytes(nodes: Numbers, children: int, fan_out: int) -> Numbers:
    entries = np.minimum(fan_out, children - nodes * fan_out)
    return HEADER_BYTES + KEEPING_BYTES + entries * REFERENCE_BYTES
