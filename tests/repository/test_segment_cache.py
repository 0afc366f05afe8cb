"""The cache of large index segments: quick where it is right, and never believed where it is not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from stillframe.repository import segment_cache
from stillframe.repository.blobs import BlobType
from stillframe.repository.segment_cache import SegmentCache, default_cache_folder
from stillframe.repository.segments import Segment, encode_segment, segment_of_packs
from tests.repository.backups import back_up, contents_of, new_repository, opened
from tests.repository.make import BLOCK_BYTES, BUNDLE, make_pack, noise
from tests.repository.storage.memory import MemoryStorage

KEY = BUNDLE.keys_of(1, "test").metadata_key


@pytest.fixture(autouse=True)
def _small_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every segment is large enough to be cached."""
    monkeypatch.setattr(segment_cache, "CACHED_ROWS", 1)


@pytest.fixture
def cache(tmp_path: Path) -> SegmentCache:
    return SegmentCache(tmp_path / "cache", KEY)


def segment_with(*seeds: str) -> tuple[str, Segment]:
    pack = make_pack([(BlobType.DATA, noise(100, seed)) for seed in seeds], seed="".join(seeds))
    segment = segment_of_packs([pack.stored])
    return encode_segment(segment, BUNDLE)[0], segment


def file_of(tmp_path: Path, name: str) -> Path:
    return tmp_path / "cache" / name.rpartition("/")[2]


def same(one: Segment | None, other: Segment) -> bool:
    return one is not None and all(
        bytes(getattr(one, column)) == bytes(getattr(other, column))
        for column in (
            "ids",
            "pack_numbers",
            "offsets_bytes",
            "stored_bytes",
            "lengths_bytes",
            "kinds",
            "codecs",
        )
    )


def test_what_was_saved_is_loaded_with_its_search_column(cache: SegmentCache) -> None:
    name, segment = segment_with("a", "b", "c")
    assert cache.load(name) is None
    cache.save(name, segment)
    loaded = cache.load(name)
    assert same(loaded, segment)
    assert loaded is not None
    assert loaded.prefixes is not None
    assert [int(prefix) for prefix in loaded.prefixes] == sorted(int(prefix) for prefix in loaded.prefixes)


def test_others_cannot_read_the_folder(cache: SegmentCache, tmp_path: Path) -> None:
    cache.save(*segment_with("a"))
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_every_flipped_bit_and_every_length_is_noticed(cache: SegmentCache, tmp_path: Path) -> None:
    name, segment = segment_with("a", "b")
    cache.save(name, segment)
    path = file_of(tmp_path, name)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        assert cache.load(name) is None
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert cache.load(name) is None
    path.write_bytes(whole + b"x")
    assert cache.load(name) is None
    path.write_bytes(whole)
    assert same(cache.load(name), segment)


def test_one_segment_in_the_place_of_another_is_noticed(cache: SegmentCache, tmp_path: Path) -> None:
    one, other = segment_with("a"), segment_with("b")
    for name, segment in (one, other):
        cache.save(name, segment)
    file_of(tmp_path, other[0]).rename(file_of(tmp_path, one[0]))
    assert cache.load(one[0]) is None


def test_another_repositorys_key_loads_nothing(cache: SegmentCache, tmp_path: Path) -> None:
    name, segment = segment_with("a")
    cache.save(name, segment)
    assert SegmentCache(tmp_path / "cache", noise(32)).load(name) is None


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    cache = SegmentCache(tmp_path / "cache", KEY)
    name, segment = segment_with("a")
    cache.save(name, segment)
    cache.keep_only([name])
    assert cache.load(name) is None


def test_a_folder_in_the_place_of_a_file_is_no_error(cache: SegmentCache, tmp_path: Path) -> None:
    name, segment = segment_with("a")
    file_of(tmp_path, name).mkdir(parents=True)
    cache.save(name, segment)
    assert cache.load(name) is None


def test_only_live_segments_are_kept(cache: SegmentCache, tmp_path: Path) -> None:
    one, other = segment_with("a"), segment_with("b")
    for name, segment in (one, other):
        cache.save(name, segment)
    cache.keep_only([one[0]])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [one[0].rpartition("/")[2]]
    assert same(cache.load(one[0]), one[1])


def test_small_segments_are_not_worth_a_file(
    cache: SegmentCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_cache, "CACHED_ROWS", 2)
    cache.save(*segment_with("a"))
    assert not (tmp_path / "cache").exists()


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STILLFRAME_CACHE", "none")
    assert default_cache_folder("id") is None
    monkeypatch.setenv("STILLFRAME_CACHE", str(tmp_path))
    assert default_cache_folder("id") == tmp_path / "id"
    monkeypatch.delenv("STILLFRAME_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    folder = default_cache_folder("id")
    assert folder is not None
    assert folder.name == "id"


def test_the_second_opening_fetches_no_segment_and_a_spoilt_cache_only_costs_time() -> None:
    storage = MemoryStorage()
    repository = new_repository(storage)
    point = back_up(repository, noise(5 * BLOCK_BYTES))

    def fetched() -> int:
        before = len(storage.operations)
        assert contents_of(opened(repository), point) == {"disk": noise(5 * BLOCK_BYTES)}
        return sum(operation.name.startswith("index/") for operation in storage.operations[before:])

    fetched()
    assert fetched() == 0
    folder = default_cache_folder(repository.config.repository_id)
    assert folder is not None
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert fetched() == 1
    assert fetched() == 0
