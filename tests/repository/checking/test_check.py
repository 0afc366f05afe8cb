"""Every damage is found, and named by the points, disks and ranges that it touches: no more, no less."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from stillframe.disk.still import Extent
from stillframe.progress import NoProgress
from stillframe.repository.checking.check import check
from stillframe.repository.checking.report import CheckReport
from stillframe.repository.checking.scrub import scrub
from stillframe.repository.collection import collect, consolidate
from stillframe.repository.entries import entry_name
from stillframe.repository.errors import DamagedError, ReaderKeyNeededError, UnknownFeatureError
from stillframe.repository.index import Location
from stillframe.repository.nodes import PiecedBlock
from stillframe.repository.operations import drive
from stillframe.repository.packs import PackBuilder, PackKind, StoredPack
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.segments import encode_segment, segment_of_packs
from stillframe.repository.still import StoredDisk
from stillframe.repository.storage.base import StorageError
from tests.repository.backups import back_up, new_repository, opened, pack_names
from tests.repository.checking.damage import Store, new_store
from tests.repository.make import BLOCK_BYTES, BUNDLE, WRITER, append, noise
from tests.repository.storage.memory import Fault, MemoryStorage, Operation


@pytest.fixture
def store() -> Store:
    return new_store()


def checked(store: Store, *, read_data: bool = True) -> CheckReport:
    return check(store.fresh(), read_data=read_data)


def affected(report: CheckReport) -> dict[str, list[tuple[int, int]]]:
    return {found.point_id: list(found.ranges) for found in report.affected if found.ranges}


def unreadable(store: Store, point: RecoveryPoint) -> list[tuple[int, int]]:
    """What a restore really cannot read: the oracle for ``affected``."""
    disk = StoredDisk(store.fresh(), point.disks[0])
    size = point.disks[0].geometry.size_bytes
    bad: list[tuple[int, int]] = []
    for start in range(0, size, BLOCK_BYTES):
        length = min(BLOCK_BYTES, size - start)
        buffer = bytearray(length)
        try:
            disk.read_into(start, memoryview(buffer))
        except (DamagedError, StorageError, UnknownFeatureError):
            if bad and sum(bad[-1]) == start:
                bad[-1] = (bad[-1][0], bad[-1][1] + length)
            else:
                bad.append((start, length))
            continue
        assert bytes(buffer) == store.contents[point.point_id][start : start + length]
    return bad


def agrees_with_restores(store: Store, report: CheckReport) -> None:
    wanted = {point.point_id: unreadable(store, point) for point in (store.first, store.second, store.other)}
    assert affected(report) == {point: ranges for point, ranges in wanted.items() if ranges}


def test_a_good_repository_is_good(store: Store) -> None:
    for read_data in (False, True):
        report = checked(store, read_data=read_data)
        assert report.is_good, report
        assert (report.points, report.entries) == (3, 3)
        assert report.packs == len(pack_names(store.storage.objects))
    assert scrub(store.storage, NoProgress()).is_good


def test_an_empty_repository_is_good() -> None:
    assert check(new_repository()).is_good


def test_a_flipped_bit_in_a_shared_block_touches_both_points(store: Store) -> None:
    name = store.flip_block(store.first, 5)
    report = checked(store)
    assert [problem.name for problem in report.problems] == [name]
    place = [(5 * BLOCK_BYTES, BLOCK_BYTES)]
    assert affected(report) == {store.first.point_id: place, store.second.point_id: place}
    agrees_with_restores(store, report)


def test_the_last_short_block_is_named_in_its_own_length(store: Store) -> None:
    store.flip_block(store.other, 5)
    assert affected(checked(store)) == {store.other.point_id: [(5 * BLOCK_BYTES, 700)]}


def test_damaged_data_is_found_only_where_it_is_read(store: Store) -> None:
    store.flip_block(store.first, 5)
    assert checked(store, read_data=False).is_good
    assert not scrub(store.storage, NoProgress()).is_good


def test_a_piece_that_is_damaged_names_its_block() -> None:
    storage = MemoryStorage()
    repository = new_repository(storage, block_bytes=1 << 20)
    data = noise(3 << 20)
    first = back_up(repository, data)
    changed = {"disk": data[: 1 << 20] + b"piece" * 100 + data[(1 << 20) + 500 :]}
    second = back_up(repository, changed, parent=first, changed={"disk": [Extent(1 << 20, 500)]})
    fresh = opened(repository)
    entry = StoredDisk(fresh, second.disks[0]).entry(1)
    assert isinstance(entry, PiecedBlock)
    location = fresh.index.find_one(entry.pieces[0].blob_id)
    assert location is not None
    Store(storage, repository, first, second, second, {}).flip(
        location.object_name, location.row.offset_bytes
    )
    assert affected(check(fresh, read_data=True)) == {second.point_id: [(1 << 20, 1 << 20)]}


Damage = Callable[[Store, str], None]


def missing(store: Store, name: str) -> None:
    del store.storage.objects[name]


def cut_off(store: Store, name: str) -> None:
    store.storage.objects[name] = store.storage.objects[name][:-20]


def emptied(store: Store, name: str) -> None:
    store.storage.objects[name] = b""


def longer(store: Store, name: str) -> None:
    store.storage.objects[name] += b"x"


def header(store: Store, name: str) -> None:
    store.flip(name, 20)


def sealed_key(store: Store, name: str) -> None:
    store.flip(name, 60)


def epoch(store: Store, name: str) -> None:
    store.flip(name, 10)


def directory(store: Store, name: str) -> None:
    store.flip(name, -20)


def trailer(store: Store, name: str) -> None:
    store.flip(name, -1)


@pytest.mark.parametrize(
    "damage", [missing, cut_off, emptied, longer, header, sealed_key, epoch, directory, trailer]
)
@pytest.mark.parametrize("folder", ["data/", "meta/"])
def test_every_damage_to_a_pack_is_found_and_its_reach_is_true(
    store: Store, damage: Damage, folder: str
) -> None:
    for name in store.objects(folder):
        kept = store.storage.objects[name]
        damage(store, name)
        report = checked(store)
        assert name in {problem.name for problem in report.problems}
        agrees_with_restores(store, report)
        if damage is not missing:
            assert name in {problem.name for problem in scrub(store.storage, NoProgress()).problems}
        store.storage.objects[name] = kept
    assert checked(store).is_good


@pytest.mark.parametrize("damage", [missing, cut_off, emptied, longer])
def test_a_pack_that_is_gone_or_of_another_length_is_found_without_reading_data(
    store: Store, damage: Damage
) -> None:
    name = store.pack_of_block(store.other, 0)
    damage(store, name)
    report = checked(store, read_data=False)
    assert [problem.name for problem in report.problems] == [name]
    assert store.other.point_id in affected(report)


@pytest.mark.parametrize("folder", ["data/", "meta/", "index/"])
def test_an_object_on_a_bad_sector_is_reported_and_the_rest_is_looked_at(store: Store, folder: str) -> None:
    name = store.objects(folder)[0]
    fresh = store.fresh()

    def plan(operation: Operation) -> Fault | None:
        return Fault.FAILED if operation.name == name else None

    store.storage.plan = plan
    report = check(fresh, read_data=True)
    assert name in {problem.name for problem in report.problems}
    assert report.packs >= len(pack_names(store.storage.objects)) // 2
    assert [problem.name for problem in scrub(store.storage, NoProgress()).problems] == [name]


def test_a_lost_segment_touches_what_it_listed_and_nothing_else(store: Store) -> None:
    for name in store.objects("index/"):
        kept = store.storage.objects.pop(name)
        report = check(store.fresh(), read_data=True)
        assert any(problem.name == name and "--index" in problem.what for problem in report.problems)
        whole = {point for point in store.contents if point not in affected(report)}
        assert whole
        assert len(whole) < 3
        store.storage.objects[name] = kept


@pytest.mark.parametrize("damage", [cut_off, emptied, header, trailer])
def test_a_damaged_segment_is_found(store: Store, damage: Damage) -> None:
    name = store.objects("index/")[0]
    damage(store, name)
    report = checked(store)
    assert name in {problem.name for problem in report.problems}
    assert name in {problem.name for problem in scrub(store.storage, NoProgress()).problems}


def test_a_lost_document_is_named(store: Store) -> None:
    fresh = store.fresh()
    location = fresh.index.find_one(store.other.documents["configuration"])
    assert location is not None
    store.flip(location.object_name, location.row.offset_bytes)
    report = checked(store)
    assert [(found.point_id, found.disk) for found in report.affected] == [
        (store.other.point_id, "document configuration")
    ]


@pytest.mark.parametrize("damage", [missing, emptied, header, trailer, cut_off])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_bad_log_entry_is_found_or_hides_nothing(store: Store, damage: Damage, number: int) -> None:
    damage(store, entry_name(number))
    if damage is missing and number == 3:
        return  # the log ended one entry earlier, for all that anybody can tell
    with pytest.raises(DamagedError):
        checked(store)
    if damage is missing:
        report = scrub(store.storage, NoProgress())
        assert [f"entry {number} is missing" in problem.what for problem in report.problems] == [True]


def test_a_bad_log_entry_behind_a_checkpoint_is_found_too(store: Store) -> None:
    fresh = store.fresh()
    drive(fresh.knowledge.log.write_checkpoint(), store.storage)
    kept = store.storage.objects[entry_name(2)]
    for damage in (missing, emptied, trailer):
        damage(store, entry_name(2))
        report = checked(store)
        assert {problem.name for problem in report.problems} == {"log/"}
        assert not report.affected
        store.storage.objects[entry_name(2)] = kept


def test_a_checkpoint_that_lies_is_found(store: Store) -> None:
    liar = store.fresh()
    liar.state.points.pop(store.first.point_id)
    drive(liar.knowledge.log.write_checkpoint(), store.storage)
    report = checked(store)
    assert [problem.name for problem in report.problems] == ["checkpoint"]


def test_strange_names_in_the_log_do_not_trouble_a_scrub(store: Store) -> None:
    store.storage.objects["log/00000000/notes"] = b"?"
    assert scrub(store.storage, NoProgress()).is_good


def test_a_damaged_config_is_found_without_a_key(store: Store) -> None:
    store.storage.objects["config"] = b"{}\n" + store.storage.objects["config"]
    assert "config" in {problem.name for problem in scrub(store.storage, NoProgress()).problems}


def test_a_writer_can_check_all_but_data(store: Store) -> None:
    assert check(opened(store.repository, WRITER)).is_good
    with pytest.raises(ReaderKeyNeededError):
        check(opened(store.repository, WRITER), read_data=True)


def with_copies(store: Store) -> list[str]:
    """Every data and metadata pack a second time, under another name; the first ones' names."""
    first = pack_names(store.storage.objects)
    fresh = store.fresh()
    _ = fresh.index
    copies = [_copy_of(fresh, name) for name in first]
    name, data = encode_segment(segment_of_packs(copies), BUNDLE)
    store.storage.put_if_absent(name, data)
    append(
        store.fresh(),
        {"kind": "rewrite", "add": [name], "drop": [], "delete": [], "suspects": [], "sweep": False},
    )
    return first


def _copy_of(repository: Repository, name: str) -> StoredPack:
    kind = PackKind.DATA if name.startswith("data/") else PackKind.METADATA
    pack_id = bytes.fromhex(name.rpartition("/")[2])
    builder = PackBuilder(kind, BUNDLE, 1 << 20)
    for row in repository.index.rows_of(pack_id):
        data = repository.read_at(Location(pack_id, kind, row))
        builder.add(row.blob_id, row.kind, type(row.codec)(0), bytes(data), len(data))
    sealed = builder.seal()
    repository.storage.put_if_absent(sealed.object_name, sealed.data)
    return sealed.stored


@pytest.mark.parametrize("damage", [missing, cut_off, header, directory])
@pytest.mark.parametrize("which", ["first", "second"])
def test_damage_to_one_of_two_copies_touches_no_point(store: Store, damage: Damage, which: str) -> None:
    firsts = with_copies(store)
    seconds = sorted(set(pack_names(store.storage.objects)) - set(firsts))
    victims = firsts if which == "first" else seconds
    for name in victims:
        damage(store, name)
    report = checked(store)
    assert {problem.name for problem in report.problems} == set(victims)
    assert not report.affected
    for point in (store.first, store.second, store.other):
        assert unreadable(store, point) == []


def test_random_damage_is_found_with_its_true_reach() -> None:
    random = Random(11)
    for _ in range(15):
        store = new_store()
        for name in random.sample(pack_names(store.storage.objects), random.randint(1, 3)):
            offset = random.randrange(len(store.storage.objects[name]))
            random.choice([missing, cut_off, lambda s, n, o=offset: s.flip(n, o)])(store, name)
        report = checked(store)
        assert report.problems
        agrees_with_restores(store, report)


def test_a_collection_beside_a_check_is_no_damage(store: Store) -> None:
    """Packs and segments that go while the check looks at them."""
    fresh = store.fresh()
    calls: list[int] = []

    def plan(operation: Operation) -> None:
        if operation.kind in ("get", "size") and operation.name.startswith(("data/", "meta/")) and not calls:
            calls.append(1)
            other = store.fresh()
            other.forget([store.first.point_id], "test")
            for _ in range(2):
                collect(store.fresh())

    store.storage.plan = plan
    report = check(fresh, read_data=True)
    assert calls
    assert report.is_good, report


def test_a_backup_beside_a_check_is_no_damage(store: Store) -> None:
    fresh = store.fresh()
    calls: list[int] = []

    def plan(operation: Operation) -> None:
        if operation.name.startswith("index/") and not calls:
            calls.append(1)
            back_up(store.fresh(), noise(9 * BLOCK_BYTES, "meanwhile"), machine="new")

    store.storage.plan = plan
    assert check(fresh, read_data=True).is_good
    assert calls


def test_segments_merged_beside_a_check_are_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consolidate, "MANY_SEGMENTS", 2)
    fresh = store.fresh()
    calls: list[int] = []

    def plan(operation: Operation) -> None:
        if operation.kind == "get" and operation.name.startswith("index/") and not calls:
            calls.append(1)
            assert consolidate.consolidate_index(store.fresh())

    store.storage.plan = plan
    report = check(fresh, read_data=True)
    assert report.is_good, report
    assert calls


def test_the_report_says_it_in_json(store: Store) -> None:
    store.flip_block(store.other, 0)
    document = checked(store).to_json()
    assert document["good"] is False
    assert document["affected"] == [
        {"point": store.other.point_id, "machine": "db", "disk": "disk", "ranges": [[0, BLOCK_BYTES]]}
    ]


def test_memory_storage_is_what_a_store_is_made_of() -> None:
    """The fixture itself: equal contents, new names every time."""
    one, two = new_store(MemoryStorage()), new_store(MemoryStorage())
    assert one.first.disks[0].root == two.first.disks[0].root
    assert not set(pack_names(one.storage.objects)) & set(pack_names(two.storage.objects))
