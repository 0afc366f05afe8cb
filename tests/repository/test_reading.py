"""Reading goes on where the store moved, or where one copy of several is bad."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from stillframe.repository import reading
from stillframe.repository.blobs import BlobType
from stillframe.repository.collection import collect
from stillframe.repository.errors import DamagedError, ReaderKeyNeededError
from stillframe.repository.repository import Repository
from stillframe.repository.still import StoredDisk
from stillframe.repository.storage.base import StorageError
from tests.repository.backups import back_up, contents_of, opened, pack_names
from tests.repository.checking.damage import Store, new_store
from tests.repository.checking.test_check import cut_off, directory, epoch, header, missing, with_copies
from tests.repository.make import BLOCK_BYTES, WRITER, noise
from tests.repository.storage.memory import Fault


@pytest.fixture
def store() -> Store:
    return new_store()


def all_read(store: Store, repository: Repository) -> bool:
    return all(
        contents_of(repository, point) == {"disk": store.contents[point.point_id]}
        for point in (store.first, store.second, store.other)
    )


def halved(store: Store, name: str) -> None:
    store.storage.objects[name] = store.storage.objects[name][: len(store.storage.objects[name]) // 2]


@pytest.mark.parametrize("damage", [missing, cut_off, halved, header, directory, epoch])
@pytest.mark.parametrize("which", [0, 1])
def test_a_bad_copy_never_hides_a_good_one(
    store: Store, damage: Callable[[Store, str], None], which: int
) -> None:
    firsts = with_copies(store)
    seconds = sorted(set(pack_names(store.storage.objects)) - set(firsts))
    for name in (firsts, seconds)[which]:
        damage(store, name)
    assert all_read(store, store.fresh())


@pytest.mark.parametrize("which", [0, 1])
def test_a_copy_on_a_bad_sector_never_hides_a_good_one(store: Store, which: int) -> None:
    firsts = with_copies(store)
    seconds = sorted(set(pack_names(store.storage.objects)) - set(firsts))
    bad = set((firsts, seconds)[which])
    store.storage.plan = lambda operation: Fault.FAILED if operation.name in bad else None
    assert all_read(store, store.fresh())


def test_the_only_copy_on_a_bad_sector_is_the_storages_own_error(store: Store) -> None:
    bad = store.pack_of_block(store.other, 0)
    fresh = store.fresh()
    store.storage.plan = lambda operation: Fault.FAILED if operation.name == bad else None
    with pytest.raises(StorageError, match=bad):
        contents_of(fresh, store.other)
    store.storage.plan = lambda _: None
    assert contents_of(fresh, store.other) == {"disk": store.contents[store.other.point_id]}


def test_a_lost_blob_names_its_pack(store: Store) -> None:
    pack = store.pack_of_block(store.other, 0)
    missing(store, pack)
    with pytest.raises(DamagedError, match=f"{pack}: is lost"):
        contents_of(store.fresh(), store.other)


def test_a_writers_credential_reads_no_data(store: Store) -> None:
    writer = opened(store.repository, WRITER)
    with pytest.raises(ReaderKeyNeededError):
        contents_of(writer, store.first)
    assert StoredDisk(writer, store.first.disks[0]).entry(0)  # its trees it may read


def test_a_reader_follows_collections_that_move_everything(store: Store) -> None:
    reader = store.fresh()
    assert all_read(store, reader)
    for number in range(4):
        dead = back_up(store.fresh(), noise(9 * BLOCK_BYTES, number), machine="dead")
        for n in range(5):
            back_up(store.fresh(), noise(600, (number, n)), machine=f"small{n}")
        store.fresh().forget([dead.point_id], "test")
        collect(store.fresh())
        reader._reader._nodes.clear()
        assert all_read(store, reader)


def test_a_point_that_was_forgotten_and_collected_says_so(store: Store) -> None:
    reader = store.fresh()
    _ = reader.index
    store.fresh().forget([store.other.point_id], "test")
    collect(store.fresh())
    with pytest.raises(DamagedError) as caught:
        contents_of(reader, store.other)
    assert "forgotten" in str(caught.value) + (caught.value.hint or "") or "is lost" in str(caught.value)


def test_the_caches_stay_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_NODES", 3)
    monkeypatch.setattr(reading, "_OPENERS", 2)
    fresh = store.fresh()
    assert all_read(store, fresh)
    assert len(fresh._reader._nodes) <= 3
    assert len(fresh._reader._openers) <= 2


def test_many_threads_read_at_once(store: Store) -> None:
    fresh = store.fresh()
    right: list[bool] = []

    def read() -> None:
        right.extend(all_read(store, fresh) for _ in range(5))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        collect(store.fresh())
    for thread in threads:
        thread.join()
    assert right == [True] * 20


def test_a_node_of_another_height_is_damage(store: Store) -> None:
    root = store.first.disks[0].root
    assert root is not None
    fresh = store.fresh()
    fresh.read_node(root, 1)
    for height in (0, 2):
        with pytest.raises(DamagedError, match="height"):
            fresh.read_node(root, height)


def test_a_blob_of_another_type_is_not_read_for_it(store: Store) -> None:
    """The type is part of the id: guest data cannot pass for a node."""
    fresh = store.fresh()
    entry = StoredDisk(fresh, store.first.disks[0]).entry(0)
    assert isinstance(entry, bytes)
    with pytest.raises(DamagedError):
        fresh.read_blob(entry, BlobType.NODE)
