"""Disk trees: building, updating, walking and comparing them (format, section 7).

Functions here know nodes by id and get them through callables, so that they serve backup, restore, checking
and collection alike, and are tested against a plain list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from stillframe.repository.nodes import Node, NodeEntry, trimmed

ReadNode = Callable[[bytes, int], Node]
"""Node by id and height."""

StoreNode = Callable[[int, list[NodeEntry]], bytes]
"""Keeps a node of a height and gives its id."""


def height_for(block_count: int, fan_out: int) -> int:
    """The smallest height that covers so many blocks."""
    height, covered = 0, fan_out
    while covered < block_count:
        height, covered = height + 1, covered * fan_out
    return height


class TreeBuilder:
    """Builds a tree from its block entries in order, keeping one open node a height in memory."""

    def __init__(self, block_count: int, fan_out: int, store: StoreNode) -> None:
        self._fan_out = fan_out
        self._store = store
        self._height = height_for(block_count, fan_out)
        self._open: list[list[NodeEntry]] = [[] for _ in range(self._height + 2)]
        self._expected = block_count
        self._appended = 0

    def append(self, entry: NodeEntry) -> None:
        """The next block."""
        self._appended += 1
        self._add(0, entry)

    def append_zeros(self, count: int) -> None:
        """The next ``count`` blocks are zero; whole subtrees are skipped in one step."""
        self._appended += count
        while count:
            height, span = 0, 1
            while height < self._height and not self._open[height] and span * self._fan_out <= count:
                height, span = height + 1, span * self._fan_out
            self._add(height, None)
            count -= span

    def finish(self) -> bytes | None:
        """The root; None for an all-zero disk."""
        assert self._appended == self._expected, f"{self._appended} of {self._expected} blocks"
        for height in range(self._height):
            if self._open[height]:
                self._close(height)
        if self._open[self._height]:
            self._close(self._height)
        root = self._open[self._height + 1][0] if self._open[self._height + 1] else None
        assert root is None or isinstance(root, bytes)
        return root

    def _add(self, height: int, entry: NodeEntry) -> None:
        self._open[height].append(entry)
        if len(self._open[height]) == self._fan_out:
            self._close(height)

    def _close(self, height: int) -> None:
        entries, self._open[height] = self._open[height], []
        self._add(height + 1, store_unless_zero(self._store, height, entries))


def store_unless_zero(store: StoreNode, height: int, entries: list[NodeEntry]) -> bytes | None:
    kept = list(trimmed(entries))
    return store(height, kept) if kept else None


def update_tree(
    root: bytes | None,
    block_count: int,
    fan_out: int,
    updates: Iterable[tuple[int, NodeEntry]],
    read: ReadNode,
    store: StoreNode,
) -> bytes | None:
    """The root after replacing some blocks, given in ascending order; untouched subtrees are never read."""
    height = height_for(block_count, fan_out)
    return _Update(fan_out, updates, read, store).apply(root, height, 0)


class _Update:
    def __init__(
        self,
        fan_out: int,
        updates: Iterable[tuple[int, NodeEntry]],
        read: ReadNode,
        store: StoreNode,
    ) -> None:
        self._fan_out = fan_out
        self._updates = iter(updates)
        self._read = read
        self._store = store
        self._next = next(self._updates, None)

    def apply(self, node_id: bytes | None, height: int, first_block: int) -> bytes | None:
        span = self._fan_out**height
        end = first_block + span * self._fan_out
        if self._next is None or self._next[0] >= end:
            return node_id
        entries = list(self._read(node_id, height).entries) if node_id else []
        entries += [None] * (self._fan_out - len(entries))
        while self._next is not None and self._next[0] < end:
            block, entry = self._next
            child = (block - first_block) // span
            if height == 0:
                entries[child] = entry
                self._next = next(self._updates, None)
            else:
                below = entries[child]
                assert not below or isinstance(below, bytes)
                entries[child] = self.apply(below or None, height - 1, first_block + child * span)
        return store_unless_zero(self._store, height, entries)


def grow(
    root: bytes | None, old_blocks: int, new_blocks: int, fan_out: int, store: StoreNode
) -> bytes | None:
    """The root of the same contents in a larger disk: the old root becomes the first child."""
    for height in range(height_for(old_blocks, fan_out) + 1, height_for(new_blocks, fan_out) + 1):
        if root is not None:
            root = store(height, [root])
    return root


def walk_blocks(
    root: bytes | None,
    block_count: int,
    fan_out: int,
    read: ReadNode,
    first: int = 0,
    end: int | None = None,
) -> Iterator[tuple[int, NodeEntry]]:
    """Number and entry of every block in a range that is not zero, ascending."""
    if root is not None:
        height = height_for(block_count, fan_out)
        yield from _walk(root, height, 0, fan_out, read, first, block_count if end is None else end)


def _walk(
    node_id: bytes, height: int, base: int, fan_out: int, read: ReadNode, first: int, end: int
) -> Iterator[tuple[int, NodeEntry]]:
    span = fan_out**height
    for child, entry in enumerate(read(node_id, height).entries):
        start = base + child * span
        if entry is None or start + span <= first or start >= end:
            continue
        if height == 0:
            yield start, entry
        else:
            assert isinstance(entry, bytes)
            yield from _walk(entry, height - 1, start, fan_out, read, first, end)


def changed_blocks(
    old: bytes | None, new: bytes | None, block_count: int, fan_out: int, read: ReadNode
) -> Iterator[tuple[int, NodeEntry, NodeEntry]]:
    """Blocks whose entries differ between two trees of one height, descending only where ids differ.

    Different entries may still hold equal bytes (pieces against a whole block).
    """
    yield from _compare(old, new, height_for(block_count, fan_out), 0, fan_out, read)


def _compare(
    old: bytes | None, new: bytes | None, height: int, base: int, fan_out: int, read: ReadNode
) -> Iterator[tuple[int, NodeEntry, NodeEntry]]:
    if old == new:
        return
    old_entries = read(old, height).entries if old else ()
    new_entries = read(new, height).entries if new else ()
    span = fan_out**height
    for child in range(max(len(old_entries), len(new_entries))):
        before = old_entries[child] if child < len(old_entries) else None
        after = new_entries[child] if child < len(new_entries) else None
        if before == after:
            continue
        if height == 0:
            yield base + child, before, after
        else:
            assert not isinstance(before, tuple)
            assert before is None or isinstance(before, bytes)
            assert after is None or isinstance(after, bytes)
            yield from _compare(before, after, height - 1, base + child * span, fan_out, read)
