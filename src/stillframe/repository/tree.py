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
    old_block_count: int,
    block_count: int,
    fan_out: int,
    updates: Iterable[tuple[int, NodeEntry]],
    read: ReadNode,
    store: StoreNode,
) -> bytes | None:
    """The root after replacing some blocks, given in ascending order; untouched subtrees are never read.

    The disk may have grown: the old root becomes the first child of the new one.
    """
    assert block_count >= old_block_count, "a disk that shrank is built anew"
    update = _Update(fan_out, updates, read, store)
    old_height = height_for(old_block_count, fan_out)
    updated = update.grown(root, old_height, height_for(block_count, fan_out))
    assert update.is_done, "an update lies beyond the end of the disk"
    return updated


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

    @property
    def is_done(self) -> bool:
        return self._next is None

    def grown(self, root: bytes | None, root_height: int, height: int) -> bytes | None:
        """The updated root at a height that the old root may not reach."""
        if height == root_height:
            return self.apply(root, height, 0)
        entries: list[NodeEntry] = [None] * self._fan_out
        entries[0] = self.grown(root, root_height, height - 1)
        self._replace(entries, height, 0)
        return store_unless_zero(self._store, height, entries)

    def apply(self, node_id: bytes | None, height: int, first_block: int) -> bytes | None:
        end = first_block + self._fan_out ** (height + 1)
        if self._next is None or self._next[0] >= end:
            return node_id
        entries = list(self._read(node_id, height).entries) if node_id else []
        entries += [None] * (self._fan_out - len(entries))
        self._replace(entries, height, first_block)
        return store_unless_zero(self._store, height, entries)

    def _replace(self, entries: list[NodeEntry], height: int, first_block: int) -> None:
        """Bring the children up to date, as far as there are updates for them."""
        span = self._fan_out**height
        end = first_block + span * self._fan_out
        while self._next is not None and self._next[0] < end:
            block, entry = self._next
            assert block >= first_block, f"block {block} comes out of order"
            child = (block - first_block) // span
            if height == 0:
                entries[child] = entry
                self._next = next(self._updates, None)
            else:
                entries[child] = self.apply(_child(entries[child]), height - 1, first_block + child * span)


def _child(entry: NodeEntry) -> bytes | None:
    """An inner node's entry: decoding lets nothing else pass."""
    assert entry is None or isinstance(entry, bytes)
    return entry


def block_entry(root: bytes | None, block: int, block_count: int, fan_out: int, read: ReadNode) -> NodeEntry:
    """The entry of one block."""
    entry: NodeEntry = root
    for height in range(height_for(block_count, fan_out), -1, -1):
        node_id = _child(entry)
        if node_id is None:
            return None
        entries = read(node_id, height).entries
        child = block // fan_out**height % fan_out
        entry = entries[child] if child < len(entries) else None
    return entry


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
        elif (below := _child(entry)) is not None:
            yield from _walk(below, height - 1, start, fan_out, read, first, end)


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
            below = base + child * span
            yield from _compare(_child(before), _child(after), height - 1, below, fan_out, read)
