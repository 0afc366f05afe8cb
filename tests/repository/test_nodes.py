"""Nodes of a disk tree: one encoding for one node, and no crash whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.repository.errors import DamagedError
from stillframe.repository.nodes import (
    MAX_PIECES,
    ZEROS,
    Node,
    NodeEntry,
    Piece,
    PiecedBlock,
    decode_node,
    encode_node,
    trimmed,
)

ids = st.binary(min_size=32, max_size=32)
lengths = st.integers(1, 1 << 20)
pieces = st.builds(
    Piece, st.integers(0, 15 << 20), lengths, st.integers(0, 2**32 - 1), st.one_of(ids, st.just(ZEROS))
)
pieced = st.builds(PiecedBlock, st.none() | ids, st.lists(pieces, min_size=1, max_size=MAX_PIECES).map(tuple))
inner = st.lists(st.none() | ids, max_size=70)
leaves = st.lists(st.none() | ids | pieced, max_size=12)


def test_a_node_is_what_the_format_says() -> None:
    one, two = b"1" * 32, b"2" * 32
    block = PiecedBlock(one, (Piece(4096, 512, 7, two), Piece(0, 1, 0, ZEROS)))
    expected = (
        bytes((1, 0, 3, 0))
        + b"\0"
        + b"\x01" + one
        + b"\x02\x01" + one + b"\x02"
        + b"\0\x10\0\0" + b"\0\x02\0\0" + b"\x07\0\0\0" + two
        + bytes(4) + b"\x01\0\0\0" + bytes(4) + bytes(32)
    )  # fmt: skip
    assert encode_node(0, [None, one, block, None]) == expected
    assert decode_node(expected, 0, "test") == Node(0, (None, one, block))


@given(entries=leaves)
def test_leaves_round_trip(entries: list[NodeEntry]) -> None:
    kept = tuple(trimmed(entries))
    if kept:
        data = encode_node(0, entries)
        assert decode_node(data, 0, "test") == Node(0, kept)
        assert decode_node(memoryview(bytearray(data)), 0, "test") == Node(0, kept)
        assert encode_node(0, [*kept, None, None]) == data


@given(entries=inner, height=st.integers(1, 40))
def test_inner_nodes_round_trip(entries: list[NodeEntry], height: int) -> None:
    kept = tuple(trimmed(entries))
    if kept:
        assert decode_node(encode_node(height, entries), height, "test") == Node(height, kept)


@given(one=leaves, two=leaves)
def test_different_nodes_have_different_bytes(one: list[NodeEntry], two: list[NodeEntry]) -> None:
    if trimmed(one) and trimmed(two):
        assert (encode_node(0, one) == encode_node(0, two)) == (list(trimmed(one)) == list(trimmed(two)))


@given(data=st.binary(max_size=300), height=st.integers(0, 255))
def test_random_bytes_are_a_node_or_damage(data: bytes, height: int) -> None:
    decode_or_refuse(data, height)


@given(
    start=st.builds(lambda count: bytes((1, 0, count, 0)), st.integers(0, 20)),
    rest=st.lists(
        st.one_of(st.sampled_from([b"\0", b"\x01", b"\x02", b"\x01" * 33]), ids, st.binary(max_size=5))
    ),
)
def test_bytes_that_look_like_a_node_are_one_or_damage(start: bytes, rest: list[bytes]) -> None:
    decode_or_refuse(start + b"".join(rest), 0)


@given(entries=leaves, place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_node_with_a_changed_byte_is_a_node_or_damage(
    entries: list[NodeEntry], place: int, value: int
) -> None:
    if trimmed(entries):
        data = bytearray(encode_node(0, entries))
        data[place % len(data)] = value
        decode_or_refuse(bytes(data), 0)


def decode_or_refuse(data: bytes, height: int) -> None:
    """What is decoded encodes to the same bytes but for zeros at the end."""
    try:
        node = decode_node(data, height, "test")
    except DamagedError:
        return
    if trimmed(node.entries):
        assert encode_node(height, node.entries) == data or node.entries[-1] is None


@given(entries=leaves)
def test_every_truncation_is_damage(entries: list[NodeEntry]) -> None:
    if trimmed(entries):
        data = encode_node(0, entries)
        for length in range(len(data)):
            with pytest.raises(DamagedError):
                decode_node(data[:length], 0, "test")


@pytest.mark.parametrize(
    "data",
    [
        bytes((1, 0, 0, 0)),
        bytes((2, 0, 1, 0, 0)),
        bytes((1, 1, 1, 0, 0)),
        b"\x01\x00\x01\x04" + bytes(1025),
        bytes((1, 0, 1, 0, 3)),
        bytes((1, 0, 1, 0, 0, 0)),
        bytes((1, 0, 1, 0, 2, 0, 0)),
        bytes((1, 0, 1, 0, 2, 2, 1)) + bytes(44),
        bytes((1, 0, 1, 0, 2, 0, 17)) + (bytes(4) + b"\x01\0\0\0" + bytes(36)) * 17,
        bytes((1, 0, 1, 0, 2, 0, 1)) + bytes(44),
        bytes((1, 0, 1, 0, 2, 0, 1)) + b"\0\0\0\x01" + b"\x01\0\0\0" + bytes(36),
        bytes((1, 0, 1, 0, 2, 0, 1)) + b"\xff\xff\xff\xff" * 2 + bytes(36),
    ],
)
def test_nodes_that_break_the_rules_are_damage(data: bytes) -> None:
    with pytest.raises(DamagedError, match="the node"):
        decode_node(data, 0, "the node")


def test_pieces_above_the_leaves_are_damage() -> None:
    leaf = encode_node(0, [PiecedBlock(None, (Piece(0, 1, 0, ZEROS),))])
    with pytest.raises(DamagedError):
        decode_node(leaf[:1] + b"\x01" + leaf[2:], 1, "test")


def test_references_name_every_blob_that_a_node_keeps_alive() -> None:
    a, b, c = b"a" * 32, b"b" * 32, b"c" * 32
    node = Node(
        0, (a, None, PiecedBlock(b, (Piece(0, 1, 0, c), Piece(1, 1, 0, ZEROS))), PiecedBlock(None, ()))
    )
    assert list(node.references()) == [a, b, c]
