"""Packs: whatever happens to their bytes is noticed, and blobs stay where they were put."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.errors import StillframeError
from stillframe.repository.blobs import BlobType, Codec, IdKeys
from stillframe.repository.errors import DamagedError, ReaderKeyNeededError, UnknownFeatureError
from stillframe.repository.keys import Bundle
from stillframe.repository.packs import (
    HEADER,
    PREFIX_BYTES,
    TRAILER,
    PackBuilder,
    PackKind,
    PackMemory,
    SealedPack,
    pack_opener,
    parse_directory,
    parse_trailer,
    read_blobs,
    split_pack,
)
from stillframe.repository.zstandard import zstd
from tests.repository.make import BUNDLE, WRITER, make_pack, noise, seeded

IDS = IdKeys(BUNDLE.id_key)
TEXT = b"a text that compresses. " * 8
BLOBS = [(BlobType.DATA, TEXT), (BlobType.DATA, noise(50)), (BlobType.DATA, b"")]
METADATA = [(BlobType.NODE, TEXT), (BlobType.DOCUMENT, noise(40))]


def contents(pack: SealedPack) -> list[tuple[BlobType, bytes]]:
    """Every blob whose bytes are what its id says."""
    return [
        (row.kind, bytes(data))
        for row, data in read_blobs("pack", bytes(pack.data), BUNDLE)
        if not isinstance(data, DamagedError) and IDS.id_of(row.kind, data) == row.blob_id
    ]


def is_whole(data: bytes, count: int) -> bool:
    try:
        read = list(read_blobs("pack", data, BUNDLE))
    except (DamagedError, UnknownFeatureError):
        return False
    return len(read) == count and not any(isinstance(found, DamagedError) for _, found in read)


def both_kinds() -> Iterator[tuple[SealedPack, int]]:
    yield make_pack(BLOBS), len(BLOBS)
    yield make_pack(METADATA, PackKind.METADATA), len(METADATA)


def test_packs_give_back_what_was_put() -> None:
    assert contents(make_pack(BLOBS)) == BLOBS
    assert contents(make_pack(METADATA, PackKind.METADATA)) == METADATA


@settings(max_examples=30)
@given(blobs=st.lists(st.binary(max_size=2000), max_size=6), level=st.sampled_from([None, 1]))
def test_any_blobs_round_trip(blobs: list[bytes], level: int | None) -> None:
    typed = [(BlobType.DATA, blob) for blob in blobs]
    pack = make_pack(typed, level=level)
    assert contents(pack) == typed
    assert [row.offset_bytes for row in pack.stored.rows] == sorted(
        row.offset_bytes for row in pack.stored.rows
    )


def test_the_name_is_the_hash_of_the_bytes_and_the_kind_is_the_folder() -> None:
    for pack, _ in both_kinds():
        name = blake3(pack.data).hexdigest()
        folder = "data" if pack.stored.kind is PackKind.DATA else "meta"
        assert pack.object_name == f"{folder}/{name[:2]}/{name}"


def test_names_never_recur_and_equal_packs_share_no_bytes_beyond_their_headers() -> None:
    one, two = (
        make_pack(METADATA, PackKind.METADATA, seed="a"),
        make_pack(METADATA, PackKind.METADATA, seed="b"),
    )
    assert one.stored.pack_id != two.stored.pack_id
    first = one.stored.rows[0]
    stored = slice(first.offset_bytes, first.offset_bytes + first.stored_bytes)
    assert bytes(one.data[stored]) != bytes(two.data[stored])


def test_every_flipped_bit_of_every_byte_is_noticed_without_the_name() -> None:
    for pack, count in both_kinds():
        whole = bytes(pack.data)
        assert is_whole(whole, count)
        for place in range(len(whole)):
            flipped = whole[:place] + bytes((whole[place] ^ (1 << place % 8),)) + whole[place + 1 :]
            assert not is_whole(flipped, count), f"{pack.stored.kind.name}: byte {place}"


def test_a_flipped_bit_in_one_blob_costs_that_blob_only() -> None:
    pack = make_pack(BLOBS)
    damaged = bytearray(pack.data)
    damaged[pack.stored.rows[1].offset_bytes + 3] ^= 1
    read = [data for _, data in read_blobs("pack", bytes(damaged), BUNDLE)]
    assert [isinstance(data, DamagedError) for data in read] == [False, True, False]
    assert f"at {pack.stored.rows[1].offset_bytes}" in str(read[1])


def test_every_truncation_is_noticed() -> None:
    for pack, count in both_kinds():
        whole = bytes(pack.data)
        assert not any(is_whole(whole[:length], count) for length in range(len(whole)))
        assert not is_whole(whole + b"\0", count)


def test_blobs_of_one_pack_cannot_change_places() -> None:
    pack = make_pack([(BlobType.DATA, noise(64, n)) for n in range(2)])
    one, two = pack.stored.rows
    whole = bytearray(pack.data)
    first = bytes(whole[one.offset_bytes : one.offset_bytes + one.stored_bytes])
    second = bytes(whole[two.offset_bytes : two.offset_bytes + two.stored_bytes])
    whole[one.offset_bytes : two.offset_bytes + two.stored_bytes] = second + first
    assert all(isinstance(data, DamagedError) for _, data in read_blobs("pack", bytes(whole), BUNDLE))


def test_a_blob_is_bound_to_its_id_type_codec_place_and_pack() -> None:
    pack = make_pack(METADATA, PackKind.METADATA)
    other = make_pack(METADATA, PackKind.METADATA, seed="other")
    data = bytes(pack.data)
    opener = pack_opener("pack", data[:PREFIX_BYTES], BUNDLE)
    foreign = pack_opener("other", bytes(other.data)[:PREFIX_BYTES], BUNDLE)
    row = pack.stored.rows[1]
    stored = data[row.offset_bytes : row.offset_bytes + row.stored_bytes]
    assert opener.open(row, stored) == METADATA[1][1]
    wrong = [
        replace(row, blob_id=bytes(32)),
        replace(row, kind=BlobType.NODE),
        replace(row, codec=Codec.ZSTD),
        replace(row, offset_bytes=row.offset_bytes + 1),
    ]
    for changed in wrong:
        with pytest.raises(DamagedError, match="pack"):
            opener.open(changed, stored)
    with pytest.raises(DamagedError):
        foreign.open(row, stored)


def test_a_frame_that_was_stored_as_it_is_is_never_unpacked() -> None:
    frame = zstd.compress(b"x" * 40)
    pack = make_pack([(BlobType.DATA, frame)], level=None)
    [row] = pack.stored.rows
    data = bytes(pack.data)
    opener = pack_opener("pack", data[:PREFIX_BYTES], BUNDLE)
    stored = data[row.offset_bytes : row.offset_bytes + row.stored_bytes]
    with pytest.raises(DamagedError, match="is damaged"):
        opener.open(replace(row, codec=Codec.ZSTD, length_bytes=40), stored)


def test_the_directory_of_another_pack_does_not_fit() -> None:
    one, two = make_pack(BLOBS, seed="a"), make_pack(BLOBS, seed="b")
    prefix = bytes(one.data[:PREFIX_BYTES])
    foreign = bytes(two.data)
    length = parse_trailer("two", foreign[-TRAILER.size :])
    directory = foreign[-TRAILER.size - length : -TRAILER.size]
    assert parse_directory("two", bytes(two.data[:PREFIX_BYTES]), directory, BUNDLE) == two.stored.rows
    with pytest.raises(DamagedError, match="directory"):
        parse_directory("one", prefix, directory, BUNDLE)


def test_a_directory_lists_what_was_added_and_writers_can_read_it() -> None:
    for pack, _ in both_kinds():
        for bundle in (BUNDLE, WRITER):
            assert split_pack("pack", pack.data, bundle)[1] == pack.stored.rows


def test_a_writer_opens_metadata_packs_and_no_data_pack() -> None:
    assert pack_opener("pack", bytes(make_pack(METADATA, PackKind.METADATA).data[:PREFIX_BYTES]), WRITER)
    with pytest.raises(ReaderKeyNeededError):
        pack_opener("pack", bytes(make_pack(BLOBS).data[:PREFIX_BYTES]), WRITER)


def test_the_keys_of_another_repository_open_nothing() -> None:
    stranger = Bundle.generate(seeded("stranger"))
    for pack, _ in both_kinds():
        with pytest.raises(DamagedError):
            split_pack("pack", pack.data, stranger)


def test_a_data_pack_made_for_a_later_epoch_says_so() -> None:
    later = Bundle(BUNDLE.id_key, {2: BUNDLE.keys_of(1, "test")})
    pack = make_pack(BLOBS, bundle=later)
    assert split_pack("pack", pack.data, later)[1] == pack.stored.rows
    with pytest.raises(UnknownFeatureError, match="epoch 2"):
        split_pack("pack", pack.data, BUNDLE)


def test_an_empty_pack_has_an_empty_directory() -> None:
    pack = make_pack([])
    assert split_pack("pack", pack.data, BUNDLE)[1] == ()
    assert len(pack.data) == PREFIX_BYTES + 16 + TRAILER.size


def test_what_was_added_is_read_back_from_the_bytes_to_be_stored() -> None:
    builder = PackBuilder(PackKind.DATA, BUNDLE, 1 << 20, seeded())
    row = builder.add(IDS.id_of(BlobType.DATA, TEXT), BlobType.DATA, Codec.PLAIN, TEXT, len(TEXT))
    assert bytes(builder.read_back(row)) == TEXT
    assert (builder.is_empty, builder.is_full) == (False, False)
    builder._buffer[row.offset_bytes] ^= 1
    with pytest.raises(DamagedError):
        builder.read_back(row)


@pytest.mark.parametrize("pack_bytes", [1, 1000, 1 << 20])
def test_a_pack_is_full_at_its_size_and_takes_what_is_larger(pack_bytes: int) -> None:
    builder = PackBuilder(PackKind.DATA, BUNDLE, pack_bytes, seeded())
    blob = noise(200_000)
    row = builder.add(IDS.id_of(BlobType.DATA, blob), BlobType.DATA, Codec.PLAIN, blob, len(blob))
    assert bytes(builder.read_back(row)) == blob
    assert builder.is_full == (pack_bytes < 1 << 20)
    assert contents(builder.seal()) == [(BlobType.DATA, blob)]


def forged_pack(rows: bytes) -> bytes:
    """A data pack with a directory of these rows, as a holder of the keys could make it."""
    builder = PackBuilder(PackKind.DATA, BUNDLE, 1000, seeded())
    header = bytes(builder._buffer[: HEADER.size])
    directory = builder._directory_cipher.encrypt(bytes(12), rows, header)
    prefix = bytes(builder._buffer[:PREFIX_BYTES])
    return prefix + directory + TRAILER.pack(len(directory), b"SFPACKND")


@pytest.mark.parametrize(
    "row",
    [
        bytes(47),
        bytes(48),
        bytes(32) + bytes((1, 9, 0, 0)) + bytes(12),
        bytes(32) + bytes((1, 0, 0, 0)) + bytes(8) + b"\xff\xff\xff\xff",
        bytes(32) + bytes((1, 0, 0, 0)) + bytes(4) + b"\xff\xff\xff\xff" + bytes(4),
    ],
)
def test_a_directory_with_impossible_rows_is_damage(row: bytes) -> None:
    with pytest.raises(DamagedError, match="directory"):
        split_pack("pack", forged_pack(row), BUNDLE)


def test_a_row_that_leaves_the_pack_is_damage() -> None:
    row = bytes(32) + bytes((1, 0, 0, 0)) + (1 << 20).to_bytes(4, "little") + (116).to_bytes(4, "little")
    [(_, found)] = read_blobs("pack", forged_pack(row + (100).to_bytes(4, "little")), BUNDLE)
    assert isinstance(found, DamagedError)


@given(data=st.binary(max_size=400))
def test_random_bytes_are_no_pack(data: bytes) -> None:
    with pytest.raises(DamagedError):
        list(read_blobs("pack", data, BUNDLE))


@given(middle=st.binary(max_size=300), length=st.integers(0, 2**32 - 1), kind=st.integers(0, 3))
def test_hostile_headers_and_trailers_are_refused(middle: bytes, length: int, kind: int) -> None:
    header = HEADER.pack(b"SFPACK01", kind, 0, 1, 80 if kind == 1 else 0, bytes(32))
    with pytest.raises(StillframeError):
        list(read_blobs("pack", header + middle + TRAILER.pack(length, b"SFPACKND"), BUNDLE))


def test_a_buffer_that_served_another_pack_leaves_nothing_in_the_next() -> None:
    memory = PackMemory()
    first = PackBuilder(PackKind.METADATA, BUNDLE, 4096, seeded("first"), memory)
    first.add(bytes(32), BlobType.NODE, Codec.PLAIN, b"\xff" * 9000, 9000)
    memory.give_back(first.seal())

    def second(given: PackMemory | None) -> bytes:
        builder = PackBuilder(PackKind.METADATA, BUNDLE, 4096, seeded("second"), given)
        builder.add(bytes(32), BlobType.NODE, Codec.PLAIN, b"x" * 100, 100)
        return bytes(builder.seal().data)

    assert second(memory) == second(None)
