"""Index segments and the index: a dictionary is the model, also where ids begin alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import StillframeError
from stillframe.repository import index as index_module
from stillframe.repository.blobs import BlobType, Codec
from stillframe.repository.errors import DamagedError
from stillframe.repository.index import Index
from stillframe.repository.keys import Bundle
from stillframe.repository.packs import PackKind, PackRow, StoredPack
from stillframe.repository.segments import (
    Segment,
    decode_segment,
    encode_segment,
    merge,
    segment_of_packs,
    without_packs,
)
from tests.repository.make import BUNDLE, WRITER, seeded

Rows = set[tuple[bytes, PackRow]]
"""Pack id and row."""

# Few ids, most of them with one of two eight-byte beginnings, so that every search meets collisions.
IDS = st.one_of(
    st.builds(
        lambda start, end: start * 8 + bytes(23) + bytes((end,)),
        st.sampled_from([b"\0", b"\xff"]),
        st.integers(0, 9),
    ),
    st.builds(
        lambda start, end: start * 8 + end * 24,
        st.sampled_from([b"\0", b"a"]),
        st.sampled_from([b"\0", b"z"]),
    ),
    st.binary(min_size=32, max_size=32),
)


def a_row(blob_id: bytes, kind: PackKind, number: int) -> PackRow:
    blob_type = BlobType.DATA if kind is PackKind.DATA else BlobType.NODE
    return PackRow(blob_id, blob_type, Codec(number % 2), 128 + 100 * number, 70 + number, 60 + number)


def a_pack(pack_id: bytes, kind: PackKind, blob_ids: Sequence[bytes]) -> StoredPack:
    rows = tuple(a_row(blob_id, kind, number) for number, blob_id in enumerate(blob_ids))
    return StoredPack(pack_id, kind, 1000 + len(rows), rows)


PACKS = st.lists(
    st.builds(
        a_pack,
        st.binary(min_size=32, max_size=32),
        st.sampled_from(PackKind),
        st.lists(IDS, max_size=12),
    ),
    max_size=5,
    unique_by=lambda pack: pack.pack_id,
)
PACK_LISTS = st.lists(PACKS, max_size=4)


def rows_of(segment: Segment) -> Rows:
    rows = Index({"index/x": segment}).rows_of
    return {(pack_id, row) for pack_id in listed_packs(segment) for row in rows(pack_id)}


def listed_packs(segment: Segment) -> list[bytes]:
    return [pack_id.tobytes() for pack_id in segment.packs.ids]


def model_of(packs: Sequence[StoredPack]) -> Rows:
    return {(pack.pack_id, row) for pack in packs for row in pack.rows}


def is_sorted(segment: Segment) -> bool:
    ids = [blob_id.tobytes() for blob_id in segment.ids]
    return ids == sorted(ids)


@given(packs=PACKS)
def test_a_segment_holds_every_row_sorted(packs: list[StoredPack]) -> None:
    segment = segment_of_packs(packs)
    assert is_sorted(segment)
    assert len(segment) == sum(len(pack.rows) for pack in packs)
    assert rows_of(segment) == model_of(packs)


@given(packs=PACKS)
def test_a_segment_round_trips(packs: list[StoredPack]) -> None:
    name, data = encode_segment(segment_of_packs(packs), BUNDLE, seeded())
    for bundle in (BUNDLE, WRITER):
        decoded = decode_segment(name, data, bundle)
        assert rows_of(decoded) == model_of(packs)
        assert Index({name: decoded}).packs == {pack.pack_id: (pack.kind, pack.size_bytes) for pack in packs}
        assert encode_segment(decoded, BUNDLE, seeded()) == (name, data)


@given(lists=PACK_LISTS)
def test_merged_segments_hold_all_rows(lists: list[list[StoredPack]]) -> None:
    merged = merge([segment_of_packs(packs) for packs in lists])
    everything = [pack for packs in lists for pack in packs]
    assert is_sorted(merged)
    assert len(merged) == sum(len(pack.rows) for pack in everything)
    assert rows_of(merged) == model_of(everything)
    assert set(listed_packs(merged)) == {pack.pack_id for pack in everything}


@given(packs=PACKS)
def test_a_pack_that_two_segments_list_appears_once(packs: list[StoredPack]) -> None:
    segment = segment_of_packs(packs)
    merged = merge([segment, segment])
    assert sorted(listed_packs(merged)) == sorted(listed_packs(segment))
    assert rows_of(merged) == model_of(packs)


@given(packs=PACKS, data=st.data())
def test_dropped_packs_take_their_rows_with_them(packs: list[StoredPack], data: st.DataObject) -> None:
    dropped = {pack.pack_id for pack in packs if data.draw(st.booleans())}
    rest = without_packs(segment_of_packs(packs), dropped | {b"?" * 32})
    kept = [pack for pack in packs if pack.pack_id not in dropped]
    assert is_sorted(rest)
    assert rows_of(rest) == model_of(kept)
    assert listed_packs(rest) == [pack.pack_id for pack in kept]
    assert Index({"index/x": rest}).packs == {pack.pack_id: (pack.kind, pack.size_bytes) for pack in kept}
    name, data_bytes = encode_segment(rest, BUNDLE, seeded())
    assert rows_of(decode_segment(name, data_bytes, BUNDLE)) == model_of(kept)


@given(lists=PACK_LISTS, asked=st.lists(IDS, max_size=20), small_rows=st.sampled_from([0, 5, 1 << 16]))
def test_the_index_finds_what_a_dictionary_finds(
    lists: list[list[StoredPack]], asked: list[bytes], small_rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "_SMALL_ROWS", small_rows)
        index = Index({f"index/{n}": segment_of_packs(packs) for n, packs in enumerate(lists)})
    model: dict[bytes, Rows] = {}
    for pack_id, row in model_of([pack for packs in lists for pack in packs]):
        model.setdefault(row.blob_id, set()).add((pack_id, row))
    wanted = [*model, *asked, *asked]
    for blob_id, found in zip(wanted, index.find(wanted), strict=True):
        places = model.get(blob_id, set())
        assert (found is None) == (not places)
        assert found is None or (found.pack_id, found.row) in places
        assert {(copy.pack_id, copy.row) for copy in index.copies(blob_id)} == places
    assert len(index) == sum(len(pack.rows) for packs in lists for pack in packs)


def test_an_id_among_many_that_begin_alike_is_found_in_all_its_places() -> None:
    ids = [b"\x7f" * 8 + bytes((n, 0)) * 12 for n in range(200)]
    packs = [a_pack(bytes((n,)) * 32, PackKind.DATA, ids[n::5] + ids[:3]) for n in range(5)]
    index = Index({f"index/{n}": segment_of_packs([pack]) for n, pack in enumerate(packs)})
    assert [location.row.blob_id for location in index.find(ids) if location] == ids
    assert {location.pack_id for location in index.copies(ids[0])} == {pack.pack_id for pack in packs}
    assert index.find([b"\x7f" * 8 + b"\xff" * 24, b"\x7f" * 8 + bytes(23) + b"\x01"]) == [None, None]


def test_an_empty_index_finds_nothing() -> None:
    for index in (Index({}), Index({"index/x": segment_of_packs([])})):
        assert index.find([]) == []
        assert index.find_one(bytes(32)) is None
        assert index.copies(bytes(32)) == []
        assert (len(index), index.packs) == (0, {})


def a_segment() -> tuple[str, bytes]:
    packs = [
        a_pack(b"p" * 32, PackKind.DATA, [b"a" * 32, b"b" * 32]),
        a_pack(b"q" * 32, PackKind.METADATA, []),
    ]
    return encode_segment(segment_of_packs(packs), BUNDLE, seeded())


def test_every_flipped_byte_and_every_truncation_is_damage() -> None:
    name, data = a_segment()
    changed = [data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :] for place in range(len(data))]
    changed += [data[:length] for length in range(len(data))] + [data + b"\0"]
    for bad in changed:
        with pytest.raises(DamagedError, match=name):
            decode_segment(name, bad, BUNDLE)
        with pytest.raises(StillframeError):  # even under the name that fits
            decode_segment(f"index/{blake3(bad).hexdigest()}", bad, BUNDLE)


def test_a_segment_in_the_place_of_another_is_damage() -> None:
    name, _ = a_segment()
    _, other = encode_segment(segment_of_packs([]), BUNDLE, seeded("other"))
    with pytest.raises(DamagedError, match="name"):
        decode_segment(name, other, BUNDLE)


def test_the_keys_of_another_repository_open_nothing() -> None:
    name, data = a_segment()
    with pytest.raises(DamagedError):
        decode_segment(name, data, Bundle.generate(seeded("stranger")))


def test_a_row_of_a_pack_that_is_not_listed_is_damage() -> None:
    packs = [a_pack(b"p" * 32, PackKind.DATA, [b"a" * 32])]
    segment = segment_of_packs(packs)
    unlisted = Segment(
        segment_of_packs([]).packs,
        segment.ids,
        segment.pack_numbers,
        segment.offsets_bytes,
        segment.stored_bytes,
        segment.lengths_bytes,
        segment.kinds,
        segment.codecs,
    )
    with pytest.raises(DamagedError, match="does not list"):
        decode_segment(*encode_segment(unlisted, BUNDLE, seeded()), BUNDLE)


@given(data=st.binary(max_size=200))
def test_random_bytes_are_no_segment(data: bytes) -> None:
    with pytest.raises(DamagedError):
        decode_segment("index/x", data, BUNDLE)
