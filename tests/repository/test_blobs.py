"""Blobs: ids by type, coding and decoding, and frames that lie."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from stillframe.repository.blobs import BlobType, Codec, Compressor, IdKeys, decode
from stillframe.repository.errors import DamagedError, UnknownFeatureError
from stillframe.repository.zstandard import zstd
from tests.repository.make import BUNDLE, noise


def test_equal_bytes_of_three_types_have_three_ids() -> None:
    ids = IdKeys(BUNDLE.id_key)
    found = {ids.id_of(kind, b"the same bytes") for kind in BlobType}
    assert len(found) == 3
    assert blake3(b"the same bytes").digest() not in found


def test_ids_are_what_the_format_says() -> None:
    key = blake3(BUNDLE.id_key, derive_key_context="stillframe 1 id node").digest()
    assert IdKeys(BUNDLE.id_key).id_of(BlobType.NODE, b"x") == blake3(b"x", key=key).digest()


def test_ids_of_two_repositories_have_nothing_in_common() -> None:
    assert IdKeys(bytes(32)).id_of(BlobType.DATA, b"x") != IdKeys(bytes(31) + b"1").id_of(BlobType.DATA, b"x")


@given(
    data=st.one_of(
        st.binary(max_size=3000), st.builds(lambda d, n: d * n, st.binary(max_size=40), st.integers(0, 9000))
    ),
    level=st.sampled_from([None, -5, 1, 3, 19]),
    as_view=st.booleans(),
)
def test_whatever_is_encoded_is_decoded(data: bytes, level: int | None, as_view: bool) -> None:
    codec, coded = Compressor(level).encode(memoryview(bytearray(data)) if as_view else data)
    assert len(coded) <= len(data)
    assert bytes(decode(codec, bytes(coded), len(data), "test")) == data
    assert level is not None or codec is Codec.PLAIN


def test_what_does_not_shrink_is_stored_as_it_is() -> None:
    for length_bytes in (1, 100, 64 << 10, 1 << 20):
        data = noise(length_bytes)
        codec, coded = Compressor(1).encode(data)
        assert (codec, coded) == (Codec.PLAIN, data)


def test_text_in_the_middle_of_noise_is_found_worth_compressing() -> None:
    data = noise(100_000) + b"text " * 40_000 + noise(100_000, 1)
    codec, coded = Compressor(1).encode(data)
    assert codec is Codec.ZSTD
    assert len(coded) < len(data) * 0.6


def test_threads_share_a_compressor() -> None:
    compressor = Compressor(1)
    texts = [f"text {n} ".encode() * 5000 for n in range(64)]
    with ThreadPoolExecutor(8) as threads:
        coded = list(threads.map(compressor.encode, texts))
    for text, (codec, data) in zip(texts, coded, strict=True):
        assert bytes(decode(codec, data, len(text), "test")) == text


@pytest.mark.parametrize("claimed", [0, 1, 99, 101, 1 << 20])
def test_a_length_that_is_not_the_blobs_is_damage(claimed: int) -> None:
    for codec, coded in ((Codec.PLAIN, bytes(100)), (Codec.ZSTD, zstd.compress(bytes(100)))):
        with pytest.raises(DamagedError, match="here"):
            decode(codec, coded, claimed, "here")


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zstd.compress(bytes(256 << 20))
    tracemalloc.start()
    with pytest.raises(DamagedError):
        decode(Codec.ZSTD, bomb, 4096, "here")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


@pytest.mark.parametrize(
    "coded",
    [
        b"",
        b"no frame",
        zstd.compress(b"a" * 100)[:-1],
        zstd.compress(b"a" * 100) + b"\0",
        zstd.compress(b"a" * 100) + zstd.compress(b"more"),
        zstd.compress(b"a" * 50) + zstd.compress(b"a" * 50),
    ],
)
def test_what_is_not_exactly_one_frame_is_damage(coded: bytes) -> None:
    with pytest.raises(DamagedError):
        decode(Codec.ZSTD, coded, 100, "here")


def test_a_frame_whose_header_lies_is_damage() -> None:
    frame = bytearray(zstd.compress(b"a" * 100))
    assert frame[4] & 0x20  # a single segment: the content size follows
    frame[5] = 90
    for claimed in (90, 100):
        with pytest.raises(DamagedError):
            decode(Codec.ZSTD, bytes(frame), claimed, "here")


def test_a_codec_of_the_future_is_said_to_be_one() -> None:
    with pytest.raises(UnknownFeatureError, match="codec 2"):
        decode(2, b"", 0, "here")


@given(coded=st.binary(max_size=200), length_bytes=st.integers(0, 300))
def test_random_bytes_are_damage_or_plain(coded: bytes, length_bytes: int) -> None:
    with pytest.raises(DamagedError):
        decode(Codec.ZSTD, coded, length_bytes, "here")
