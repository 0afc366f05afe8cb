"""Disk trees against a plain list of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.repository.nodes import NodeEntry, Piece, PiecedBlock, trimmed
from stillframe.repository.tree import (
    TreeBuilder,
    block_entry,
    changed_blocks,
    height_for,
    update_tree,
    walk_blocks,
)
from tests.repository.make import NodeStore

FAN_OUTS = st.sampled_from([2, 3, 4, 64])

REFERENCES: list[NodeEntry] = [bytes((letter,)) * 32 for letter in b"abc"]
PIECED = PiecedBlock(REFERENCES[0], (Piece(4096, 512, 0, b"p" * 32),))  # type: ignore[arg-type]
ENTRIES = st.sampled_from([None, None, None, *REFERENCES, PIECED])
BLOCKS = st.lists(
    st.one_of(ENTRIES.map(lambda entry: [entry]), st.integers(1, 80).map(lambda count: [None] * count)),
    max_size=30,
).map(lambda parts: [entry for part in parts for entry in part])


def build(blocks: Sequence[NodeEntry], fan_out: int, nodes: NodeStore) -> bytes | None:
    """One block after the other."""
    builder = TreeBuilder(len(blocks), fan_out, nodes.store)
    for entry in blocks:
        builder.append(entry)
    return builder.finish()


def listed(root: bytes | None, count: int, fan_out: int, nodes: NodeStore) -> list[NodeEntry]:
    blocks: list[NodeEntry] = [None] * count
    for number, entry in walk_blocks(root, count, fan_out, nodes.read):
        assert entry is not None
        blocks[number] = entry
    return blocks


def nonzero(blocks: Sequence[NodeEntry]) -> list[tuple[int, NodeEntry]]:
    return [(number, entry) for number, entry in enumerate(blocks) if entry is not None]


@pytest.mark.parametrize(
    ("blocks", "fan_out", "height"),
    [
        (0, 64, 0),
        (1, 64, 0),
        (64, 64, 0),
        (65, 64, 1),
        (4096, 64, 1),
        (4097, 64, 2),
        (3, 2, 1),
        (4, 2, 1),
        (5, 2, 2),
    ],
)
def test_the_height_is_the_smallest_that_covers(blocks: int, fan_out: int, height: int) -> None:
    assert height_for(blocks, fan_out) == height


@given(blocks=BLOCKS, fan_out=FAN_OUTS)
def test_a_tree_holds_its_blocks_in_order(blocks: list[NodeEntry], fan_out: int) -> None:
    nodes = NodeStore()
    root = build(blocks, fan_out, nodes)
    assert list(walk_blocks(root, len(blocks), fan_out, nodes.read)) == nonzero(blocks)
    for number, entry in enumerate(blocks):
        assert block_entry(root, number, len(blocks), fan_out, nodes.read) == entry


@given(blocks=BLOCKS, fan_out=FAN_OUTS)
def test_zeros_in_one_step_are_zeros_one_by_one(blocks: list[NodeEntry], fan_out: int) -> None:
    nodes = NodeStore()
    builder = TreeBuilder(len(blocks), fan_out, nodes.store)
    following = 0
    for number, entry in nonzero(blocks):
        builder.append_zeros(number - following)
        builder.append(entry)
        following = number + 1
    builder.append_zeros(len(blocks) - following)
    assert builder.finish() == build(blocks, fan_out, nodes)


def test_zeros_of_a_huge_disk_are_skipped_not_counted() -> None:
    nodes = NodeStore()
    builder = TreeBuilder(1 << 60, 2, nodes.store)
    builder.append_zeros((1 << 60) - 1)
    builder.append(REFERENCES[0])
    root = builder.finish()
    assert list(walk_blocks(root, 1 << 60, 2, nodes.read)) == [((1 << 60) - 1, REFERENCES[0])]
    assert len(nodes.nodes) == 60


@given(blocks=BLOCKS, fan_out=FAN_OUTS)
def test_no_node_is_all_zero_or_ends_with_zero(blocks: list[NodeEntry], fan_out: int) -> None:
    nodes = NodeStore()
    root = build(blocks, fan_out, nodes)
    assert (root is None) == (not nonzero(blocks))
    height = height_for(len(blocks), fan_out)
    pending = [(root, height)] if root else []
    while pending:
        node_id, height = pending.pop()
        node = nodes.read(node_id, height)
        assert list(trimmed(node.entries)) == list(node.entries) != []
        assert len(node.entries) <= fan_out
        pending += [(below, height - 1) for below in node.entries if height and isinstance(below, bytes)]


@given(blocks=BLOCKS, fan_out=FAN_OUTS, grown=st.integers(0, 90), data=st.data())
def test_an_updated_tree_is_the_tree_of_the_new_contents(
    blocks: list[NodeEntry], fan_out: int, grown: int, data: st.DataObject
) -> None:
    nodes = NodeStore()
    after = blocks + [None] * grown
    updates = data.draw(st.dictionaries(st.integers(0, max(len(after) - 1, 0)), ENTRIES, max_size=10))
    if not after:
        updates = {}
    for number, entry in updates.items():
        after[number] = entry
    before = build(blocks, fan_out, nodes)
    updated = update_tree(
        before, len(blocks), len(after), fan_out, sorted(updates.items()), nodes.read, nodes.store
    )
    assert updated == build(after, fan_out, nodes)
    assert listed(updated, len(after), fan_out, nodes) == after


@given(blocks=BLOCKS, grown=st.integers(1, 300), fan_out=FAN_OUTS)
def test_a_disk_that_grows_keeps_its_old_root_as_first_child(
    blocks: list[NodeEntry], grown: int, fan_out: int
) -> None:
    nodes = NodeStore()
    root = build(blocks, fan_out, nodes)
    count = len(blocks) + grown
    new = update_tree(root, len(blocks), count, fan_out, [], nodes.read, nodes.store)
    steps = height_for(count, fan_out) - height_for(len(blocks), fan_out)
    for height in range(height_for(count, fan_out), height_for(count, fan_out) - steps, -1):
        assert new is None or nodes.read(new, height).entries[1:] == ()
        new = first_child(new, height, nodes)
    assert new == root


def first_child(node_id: bytes | None, height: int, nodes: NodeStore) -> bytes | None:
    child = nodes.read(node_id, height).entries[0] if node_id else None
    assert child is None or isinstance(child, bytes)
    return child


def test_an_update_reads_only_the_way_to_its_blocks() -> None:
    nodes = NodeStore()
    blocks = [REFERENCES[n % 3] for n in range(4096)]
    root = build(blocks, 4, nodes)
    nodes.reads = 0
    update_tree(root, 4096, 4096, 4, [(7, None), (4000, None)], nodes.read, nodes.store)
    assert nodes.reads == 11  # six heights twice, the root once


@pytest.mark.parametrize(
    "updates", [[(9, None), (3, None)], [(3, None), (63, None), (0, None)], [(64, None)]]
)
def test_updates_out_of_order_or_beyond_the_end_are_a_defect(updates: list[tuple[int, NodeEntry]]) -> None:
    nodes = NodeStore()
    root = build([REFERENCES[0]] * 64, 4, nodes)
    with pytest.raises(AssertionError):
        update_tree(root, 64, 64, 4, updates, nodes.read, nodes.store)


@given(blocks=BLOCKS, fan_out=FAN_OUTS, first=st.integers(0, 200), length=st.integers(0, 200))
def test_a_walk_can_be_limited_to_a_range(
    blocks: list[NodeEntry], fan_out: int, first: int, length: int
) -> None:
    nodes = NodeStore()
    root = build(blocks, fan_out, nodes)
    walked = list(walk_blocks(root, len(blocks), fan_out, nodes.read, first, first + length))
    assert walked == [found for found in nonzero(blocks) if first <= found[0] < first + length]


def test_a_limited_walk_reads_only_what_it_shows() -> None:
    nodes = NodeStore()
    root = build([REFERENCES[0]] * 4096, 4, nodes)
    nodes.reads = 0
    assert len(list(walk_blocks(root, 4096, 4, nodes.read, 1000, 1004))) == 4
    assert nodes.reads == 6


@given(fan_out=FAN_OUTS, data=st.data())
def test_changed_blocks_are_those_that_differ(fan_out: int, data: st.DataObject) -> None:
    nodes = NodeStore()
    before = data.draw(BLOCKS)
    after = [data.draw(ENTRIES) if data.draw(st.booleans()) else entry for entry in before]
    old, new = build(before, fan_out, nodes), build(after, fan_out, nodes)
    found = list(changed_blocks(old, new, len(before), fan_out, nodes.read))
    pairs = zip(range(len(before)), before, after, strict=True)
    assert found == [(number, a, b) for number, a, b in pairs if a != b]
    assert (old == new) == (before == after)


def test_comparing_descends_only_where_trees_differ() -> None:
    nodes = NodeStore()
    blocks = [REFERENCES[n % 3] for n in range(4096)]
    old = build(blocks, 4, nodes)
    blocks[2000] = None
    new = build(blocks, 4, nodes)
    nodes.reads = 0
    assert [number for number, _, _ in changed_blocks(old, new, 4096, 4, nodes.read)] == [2000]
    assert nodes.reads == 12


def test_an_unchanged_disk_is_compared_without_reading() -> None:
    nodes = NodeStore()
    root = build([REFERENCES[0]] * 100, 4, nodes)
    nodes.reads = 0
    assert not list(changed_blocks(root, root, 100, 4, nodes.read))
    assert nodes.reads == 0


def test_a_builder_knows_how_many_blocks_it_was_promised() -> None:
    builder = TreeBuilder(3, 4, NodeStore().store)
    builder.append(None)
    with pytest.raises(AssertionError, match="1 of 3"):
        builder.finish()


def test_updates_are_taken_as_they_come() -> None:
    """A pipeline feeds the update: it must not be read ahead of the tree by more than one block."""
    nodes = NodeStore()
    root = build([REFERENCES[0]] * 64, 4, nodes)
    taken = 0

    def updates() -> Iterator[tuple[int, NodeEntry]]:
        nonlocal taken
        for number in range(0, 64, 16):
            taken += 1
            yield number, None

    def store(height: int, entries: list[NodeEntry]) -> bytes:
        seen.append((height, taken))
        return nodes.store(height, entries)

    seen: list[tuple[int, int]] = []
    update_tree(root, 64, 64, 4, updates(), nodes.read, store)
    assert seen[0] == (0, 2)
