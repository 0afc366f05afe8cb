"""Mending from images, from a mirror, and the index from the packs: only what is proved bad goes."""

from __future__ import annotations

import pytest

from stillframe.disk.still import Extent
from stillframe.progress import NoProgress
from stillframe.repository.blobs import BlobType
from stillframe.repository.checking.check import check
from stillframe.repository.checking.images import Source, repair_from_images
from stillframe.repository.checking.mirror import repair_from_mirror
from stillframe.repository.checking.rebuild import rebuild_index
from stillframe.repository.checking.repair_report import RepairReport
from stillframe.repository.collection import collect
from stillframe.repository.entries import LOG_FOLDER
from stillframe.repository.errors import ConflictError, DamagedError
from stillframe.repository.operations import drive
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import StorageError
from tests.repository.backups import BytesDisk, back_up, contents_of, new_repository, opened, pack_names
from tests.repository.checking.damage import DATA, Store, new_store
from tests.repository.checking.test_check import missing, with_copies
from tests.repository.make import BLOCK_BYTES, WRITER, make_pack, noise
from tests.repository.storage.memory import Fault, MemoryStorage, Operation


@pytest.fixture
def store() -> Store:
    return new_store()


def all_is_well(store: Store) -> bool:
    fresh = store.fresh()
    report = check(fresh, read_data=True)
    for point in fresh.points():
        assert contents_of(fresh, point) == {"disk": store.contents[point.point_id]}
    return report.is_good


def from_image(store: Store, data: bytes, name: str = "disk", *, dry_run: bool = False) -> RepairReport:
    fresh = store.fresh()
    damage = check(fresh, read_data=True)
    return repair_from_images(fresh, damage, [Source(name, BytesDisk(data))], NoProgress(), dry_run=dry_run)


def from_mirror(store: Store, mirror: MemoryStorage, *, dry_run: bool = False) -> RepairReport:
    wanted = pack_names(mirror.objects) + [name for name in mirror.objects if name.startswith("index/")]
    return repair_from_mirror(store.storage, mirror, wanted, NoProgress(), dry_run=dry_run)


def test_a_lost_block_comes_back_from_the_image(store: Store) -> None:
    pack = store.flip_block(store.first, 5)
    report = from_image(store, DATA)
    assert (report.healed_blobs, report.still_lost) == (1, 0)
    assert report.deleted_packs == [pack]
    assert pack not in store.storage.objects
    assert all_is_well(store)


def test_a_whole_lost_pack_comes_back(store: Store) -> None:
    pack = store.pack_of_block(store.other, 0)
    missing(store, pack)
    report = from_image(store, store.contents[store.other.point_id])
    assert report.still_lost == 0
    assert all_is_well(store)


def test_a_dry_run_of_a_repair_changes_nothing(store: Store) -> None:
    store.flip_block(store.first, 5)
    before = dict(store.storage.objects)
    report = from_image(store, DATA, dry_run=True)
    assert (report.healed_blobs, report.still_lost) == (1, 0)
    assert store.storage.objects == before


@pytest.mark.parametrize("data", [noise(12 * BLOCK_BYTES, "moved on"), DATA[: 3 * BLOCK_BYTES], b"x" * 512])
def test_an_image_that_moved_on_helps_less_and_harms_nothing(store: Store, data: bytes) -> None:
    pack = store.flip_block(store.first, 5)
    reach = check(store.fresh(), read_data=True).affected
    report = from_image(store, data)
    assert (report.healed_blobs, report.still_lost) == (0, 1)
    assert report.deleted_packs == []
    assert pack in store.storage.objects  # what is bad in it may be wanted by a better tool
    after = check(store.fresh(), read_data=True)
    assert after.affected == reach
    # With the right image at last, all is well.
    assert from_image(store, DATA).still_lost == 0
    assert all_is_well(store)


def test_an_image_that_has_some_of_what_is_lost(store: Store) -> None:
    for block in (5, 6, 7):
        store.flip_block(store.first, block)
    some = DATA[: 6 * BLOCK_BYTES] + bytes(6 * BLOCK_BYTES)
    report = from_image(store, some)
    assert (report.healed_blobs, report.still_lost) == (1, 2)
    ranges = {found.point_id: found.ranges for found in check(store.fresh(), read_data=True).affected}
    assert ranges[store.first.point_id] == ((6 * BLOCK_BYTES, 2 * BLOCK_BYTES),)
    assert from_image(store, DATA).still_lost == 0
    assert all_is_well(store)


def test_an_image_under_another_name_is_not_looked_at(store: Store) -> None:
    store.flip_block(store.first, 5)
    assert from_image(store, DATA, name="data").healed_blobs == 0


def test_a_lost_piece_comes_back_from_an_image() -> None:
    storage = MemoryStorage()
    repository = new_repository(storage, block_bytes=1 << 20)
    data = noise(3 << 20)
    first = back_up(repository, data)
    changed = data[: 1 << 20] + noise(9000, "piece") + data[(1 << 20) + 9000 :]
    extents = {"disk": [Extent(1 << 20, 9000)]}
    second = back_up(repository, {"disk": changed}, parent=first, changed=extents)
    newest = min(pack_names(storage.objects, "data/"), key=lambda name: len(storage.objects[name]))
    store = Store(
        storage, repository, first, second, second, {first.point_id: data, second.point_id: changed}
    )
    store.flip(newest, 500)
    assert not check(store.fresh(), read_data=True).is_good
    assert from_image(store, changed).still_lost == 0
    assert all_is_well(store)


def test_the_last_short_block_of_a_disk_that_grew_comes_back(store: Store) -> None:
    """Its blob is shorter than the block is now."""
    repository = new_repository(MemoryStorage())
    data = noise(2 * BLOCK_BYTES + 512)
    first = back_up(repository, data)
    grown = data + bytes(5 * BLOCK_BYTES)
    second = back_up(repository, {"disk": grown}, parent=first, changed={"disk": []})
    opened(repository).forget([first.point_id], "test")
    storage = repository.storage
    assert isinstance(storage, MemoryStorage)
    grown_store = Store(storage, repository, second, second, second, {second.point_id: grown})
    grown_store.flip_block(second, 2)
    assert from_image(grown_store, grown).still_lost == 0
    assert all_is_well(grown_store)


def test_a_damaged_copy_is_made_good_from_the_other_copy(store: Store) -> None:
    """No image is needed: and a collection that wants to rewrite the pack is not stuck for ever."""
    firsts = with_copies(store)
    for name in firsts:
        store.flip(name, 200)
    report = from_image(store, b"no" * 256)
    assert report.still_lost == 0
    assert set(report.deleted_packs) <= set(firsts)
    assert all_is_well(store)
    for _ in range(2):
        collect(store.fresh())
    assert all_is_well(store)


def test_nothing_is_written_where_nothing_can_be_mended(store: Store) -> None:
    missing(store, store.pack_of_block(store.other, 0))
    before = dict(store.storage.objects)
    from_image(store, b"x" * 512)
    assert store.storage.objects == before


def test_a_repair_of_data_goes_on_where_a_tree_is_lost_too(store: Store) -> None:
    store.flip_block(store.first, 5)
    fresh = store.fresh()
    root = store.other.disks[0].root
    assert root is not None
    location = fresh.index.find_one(root)
    assert location is not None
    store.flip(location.object_name, location.row.offset_bytes)
    report = from_image(store, DATA)
    assert (report.healed_blobs, report.still_lost) == (1, 1)
    reach = check(store.fresh(), read_data=True).affected
    assert {found.point_id for found in reach} == {store.other.point_id}


def test_what_a_repair_stored_was_swept_before_its_entry(store: Store) -> None:
    """It slept through two collections: better no repair than one that names what is gone."""
    store.flip_block(store.first, 5)
    calls: list[int] = []

    def race(operation: Operation) -> None:
        if operation.kind == "put" and operation.name.startswith(LOG_FOLDER) and not calls:
            calls.append(1)
            for _ in range(2):
                collect(opened(store.repository, WRITER))

    fresh = store.fresh()
    damage = check(fresh, read_data=True)
    store.storage.plan = race
    with pytest.raises(ConflictError):
        repair_from_images(fresh, damage, [Source("disk", BytesDisk(DATA))], NoProgress(), dry_run=False)
    assert calls
    assert from_image(store, DATA).still_lost == 0
    assert all_is_well(store)


@pytest.mark.parametrize("prefix", ["data/", "meta/", "index/"])
@pytest.mark.parametrize("damage", ["missing", "flipped", "emptied", "bad sector"])
def test_every_object_comes_back_from_a_mirror(store: Store, prefix: str, damage: str) -> None:
    mirror = store.storage.copy()
    for name in store.objects(prefix):
        if damage == "missing":
            missing(store, name)
        elif damage == "flipped":
            store.flip(name, 99)
        elif damage == "emptied":
            store.storage.objects[name] = b""
        else:
            store.storage.plan = lambda operation, bad=name: (  # type: ignore[misc]
                Fault.FAILED if (operation.kind, operation.name) == ("get", bad) else None
            )
        report = from_mirror(store, mirror)
        assert (report.healed_objects, report.still_lost) == ([name], 0)
        store.storage.plan = lambda _: None
        assert store.storage.objects == mirror.objects
    assert all_is_well(store)


def test_a_mirror_that_is_worse_is_no_help_and_no_harm(store: Store) -> None:
    good = store.storage.copy()
    mirror = store.storage.copy()
    names = pack_names(mirror.objects)
    del mirror.objects[names[0]]
    mirror.objects[names[1]] = b"damaged there"
    for name in names[:2]:
        store.flip(name, 99)
    damaged = dict(store.storage.objects)
    report = repair_from_mirror(store.storage, mirror, names, NoProgress(), dry_run=False)
    assert (report.healed_objects, report.still_lost) == ([], 2)
    assert store.storage.objects == damaged  # not deleted: it may be all that there is
    assert from_mirror(store, good).still_lost == 0


def test_a_dry_run_from_a_mirror_changes_nothing(store: Store) -> None:
    mirror = store.storage.copy()
    names = pack_names(mirror.objects)
    store.flip(names[0], 99)
    before = dict(store.storage.objects)
    assert from_mirror(store, mirror, dry_run=True).healed_objects == [names[0]]
    assert store.storage.objects == before


def test_a_mirror_that_cannot_be_reached_takes_nothing_away(store: Store) -> None:
    mirror = store.storage.copy()
    store.flip(pack_names(mirror.objects)[0], 99)
    before = dict(store.storage.objects)
    wanted = pack_names(mirror.objects)
    mirror.plan = lambda _: Fault.FAILED
    try:
        report = repair_from_mirror(store.storage, mirror, wanted, NoProgress(), dry_run=False)
        assert report.still_lost == 1
    except StorageError:
        pass
    assert store.storage.objects == before


def test_what_the_log_let_go_is_not_brought_back_by_a_mirror(store: Store) -> None:
    mirror = store.storage.copy()
    store.fresh().forget([store.other.point_id], "test")
    collect(store.fresh())
    report = repair_from_mirror(store.storage, mirror, [], NoProgress(), dry_run=False)
    assert report.healed_objects == []
    assert all_is_well(store)


def rebuilt(repository: Repository, *, dry_run: bool = False) -> RepairReport:
    return rebuild_index(repository, NoProgress(), dry_run=dry_run)


@pytest.mark.parametrize("damage", ["missing", "flipped", "emptied"])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_the_index_is_made_anew_from_the_packs(store: Store, damage: str, all_of_them: bool) -> None:
    names = store.objects("index/")
    for name in names if all_of_them else names[1:2]:
        if damage == "missing":
            missing(store, name)
        elif damage == "flipped":
            store.flip(name, 99)
        else:
            store.storage.objects[name] = b""
    with pytest.raises(DamagedError, match="index"):
        contents_of(store.fresh(), store.first)
    before = dict(store.storage.objects)
    would = rebuilt(store.fresh(), dry_run=True)
    assert store.storage.objects == before
    report = rebuilt(store.fresh())
    assert report.healed_objects == would.healed_objects
    assert report.indexed_packs == would.indexed_packs > 0
    assert report.still_lost == 0
    assert all_is_well(store)
    assert rebuilt(store.fresh()).healed_objects == []


def test_an_index_that_is_whole_is_left_alone(store: Store) -> None:
    before = dict(store.storage.objects)
    report = rebuilt(store.fresh())
    assert (report.healed_objects, report.indexed_packs) == ([], 0)
    assert store.storage.objects == before


def test_a_rebuilt_index_after_a_life_of_collections(store: Store) -> None:
    store.fresh().forget([store.first.point_id], "test")
    del store.contents[store.first.point_id]
    for _ in range(3):
        collect(store.fresh())
    for name in store.objects("index/"):
        missing(store, name)
    rebuilt(store.fresh())
    assert all_is_well(store)
    for _ in range(3):
        collect(store.fresh())
    assert all_is_well(store)


def test_a_pack_whose_directory_is_damaged_is_counted_as_lost(store: Store) -> None:
    victim = store.pack_of_block(store.other, 0)
    for name in store.objects("index/"):
        missing(store, name)
    store.flip(victim, -20)
    report = rebuilt(store.fresh())
    assert report.still_lost == 1


def test_packs_of_a_run_that_is_still_at_work_are_harmless_in_a_rebuilt_index(store: Store) -> None:
    writer = store.fresh()
    draft = writer.draft()
    pack = make_pack([(BlobType.DATA, noise(5000, "running"))])
    drive(draft.put_pack(pack), store.storage)
    missing(store, store.objects("index/")[0])
    rebuilt(store.fresh())
    assert all_is_well(store)
    writer.commit_upload(draft, "vm")
    for _ in range(4):
        collect(store.fresh())
    assert pack.object_name not in store.storage.objects
    assert all_is_well(store)


def test_a_rebuilt_index_does_not_name_what_was_swept_meanwhile(store: Store) -> None:
    pack = make_pack([(BlobType.DATA, noise(5000, "left"))])
    store.storage.put_if_absent(pack.object_name, pack.data)
    calls: list[int] = []

    def race(operation: Operation) -> None:
        if operation.kind == "put" and operation.name.startswith(LOG_FOLDER) and not calls:
            calls.append(1)
            for _ in range(2):
                collect(store.fresh())

    fresh = store.fresh()
    store.storage.plan = race
    with pytest.raises(ConflictError):
        rebuilt(fresh)
    assert calls
    assert all_is_well(store)
    # Else this run would count on a blob that is nowhere.
    point = back_up(store.fresh(), noise(5000, "left"), machine="new")
    assert contents_of(store.fresh(), point) == {"disk": noise(5000, "left")}
