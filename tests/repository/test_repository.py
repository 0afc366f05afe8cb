"""Making, opening and reading a repository."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.disk.still import Geometry
from stillframe.errors import StillframeError
from stillframe.repository import slots
from stillframe.repository.blobs import BlobType
from stillframe.repository.checking.check import check
from stillframe.repository.collection import collect
from stillframe.repository.entries import entry_name
from stillframe.repository.errors import (
    DamagedError,
    NoRepositoryError,
    UnknownFeatureError,
    WrongKeyError,
)
from stillframe.repository.packs import PackKind
from stillframe.repository.points import PointDisk, RecoveryPoint, format_time, parse_time
from stillframe.repository.repository import Repository, create_repository, open_repository
from stillframe.repository.segments import encode_segment, segment_of_packs
from stillframe.repository.storage.base import StorageError
from stillframe.repository.unlocking import unlock_slots
from tests.repository.make import (
    BUNDLE,
    IDS,
    MOMENT,
    append,
    commit_disk,
    make_point,
    make_repository,
    noise,
    opened_again,
    rewrite,
    seeded,
    store_pack,
)
from tests.repository.storage.memory import Fault, MemoryStorage, Operation, fault_at


@pytest.fixture
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)
    monkeypatch.setattr(slots, "_ITERATIONS", 1)


def open_with(storage: MemoryStorage, secret: str) -> Repository:
    return open_repository(storage, partial(unlock_slots, storage, secret=secret))


# Init.


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.HAPPENED, Fault.HALF])
def test_an_init_that_was_cut_off_anywhere_can_be_repeated(fault: Fault) -> None:
    untouched = MemoryStorage()
    create_repository(untouched, "secret")
    for operation in untouched.operations:
        if fault is Fault.HALF and operation.name == "config":
            continue  # a storage that leaves half an object cannot hold a repository
        storage = MemoryStorage()
        storage.plan = fault_at(operation.number, fault)
        with suppress(StorageError):
            create_repository(storage, "first try")
        storage.plan = lambda _: None
        assert open_with(storage, secret_of(storage)).points() == []


def secret_of(storage: MemoryStorage) -> str:
    """Init again: either there is no repository and it works, or there is one from the first try."""
    try:
        create_repository(storage, "second try")
    except NoRepositoryError:
        return "first try"
    return "second try"


@pytest.mark.usefixtures("_cheap")
def test_an_init_cut_off_before_config_leaves_no_repository() -> None:
    storage = MemoryStorage()
    storage.plan = lambda operation: (
        Fault.FAILED if operation.name == "config" and operation.kind == "put" else None
    )
    with pytest.raises(StorageError):
        create_repository(storage, "first try")
    assert len(storage.objects) == 2
    storage.plan = lambda _: None
    with pytest.raises(NoRepositoryError, match="no Stillframe repository"):
        open_with(storage, "first try")
    create_repository(storage, "second try")
    open_with(storage, "second try")
    with pytest.raises(WrongKeyError):
        open_with(storage, "first try")


@pytest.mark.usefixtures("_cheap")
def test_a_config_whose_put_failed_but_happened_is_ours() -> None:
    storage = MemoryStorage()
    storage.plan = lambda operation: (
        Fault.HAPPENED if operation.name == "config" and operation.kind == "put" else None
    )
    _, recovery_key = create_repository(storage, "secret")
    open_with(storage, recovery_key)


@pytest.mark.usefixtures("_cheap")
def test_a_second_init_is_refused_and_changes_nothing() -> None:
    storage = MemoryStorage()
    create_repository(storage, "first")
    before = dict(storage.objects)
    with pytest.raises(NoRepositoryError, match="already") as refused:
        create_repository(storage, "second")
    assert (refused.value.exit_code, storage.objects) == (2, before)


@pytest.mark.usefixtures("_cheap")
def test_of_two_inits_at_once_one_is_told_that_it_lost() -> None:
    storage = MemoryStorage()

    def race(operation: Operation) -> None:
        if operation.kind == "put" and operation.name == "config":
            storage.plan = lambda _: None
            create_repository(storage, "winner")

    storage.plan = race
    with pytest.raises(NoRepositoryError):
        create_repository(storage, "loser")
    open_with(storage, "winner")
    with pytest.raises(WrongKeyError):
        open_with(storage, "loser")


def test_there_is_no_repository_in_an_empty_place() -> None:
    with pytest.raises(NoRepositoryError) as refused:
        open_with(MemoryStorage(), "secret")
    assert "init" in refused.value.hint


@pytest.mark.usefixtures("_cheap")
def test_a_repository_that_needs_a_feature_to_be_read_is_not_opened() -> None:
    storage = MemoryStorage()
    create_repository(storage, "secret")
    storage.objects["config"] = storage.objects["config"].replace(b'"read":[]', b'"read":["holograms"]')
    with pytest.raises(UnknownFeatureError, match="holograms"):
        open_with(storage, "secret")


# Points.


def test_points_come_in_the_order_of_the_log() -> None:
    repository = make_repository()
    for name in ("b", "a", "c"):
        commit_disk(repository, name, [noise(10, name)])
    assert [point.point_id for point in opened_again(repository).points()] == [
        make_point(name).point_id for name in ("b", "a", "c")
    ]
    assert [point.number for point in repository.points()] == [1, 2, 3]


def test_forgotten_points_are_gone_for_all_and_once() -> None:
    repository = make_repository()
    kept, gone = commit_disk(repository, "a", [noise(10)]), commit_disk(repository, "b", [noise(11)])
    repository.forget([gone.point_id, "0" * 16], "test")
    repository.forget([gone.point_id], "test")
    other = opened_again(repository)
    assert [point.point_id for point in other.points()] == [kept.point_id]
    assert other.state.forgotten == 1


def test_nothing_is_forgotten_in_a_log_with_entries_of_unknown_kind() -> None:
    repository = make_repository()
    point = commit_disk(repository, "a", [noise(10)])
    append(opened_again(repository), {"kind": "hologram"})
    with pytest.raises(UnknownFeatureError):
        repository.forget([point.point_id], "test")
    assert len(opened_again(repository).points()) == 1


def test_nothing_is_collected_in_such_a_log_even_if_the_entry_comes_meanwhile() -> None:
    storage = MemoryStorage()
    repository = make_repository(storage)
    point = commit_disk(repository, "a", [noise(10)])
    repository.forget([point.point_id], "test")

    def race(operation: Operation) -> None:
        if operation.kind == "put" and operation.name == entry_name(3):
            storage.plan = lambda _: None
            append(opened_again(repository), {"kind": "hologram"})

    storage.plan = race
    for _ in range(2):
        with pytest.raises(UnknownFeatureError, match="collect"):
            collect(repository)
    assert sum(name.startswith(("data/", "meta/")) for name in storage.objects) == 2


def test_a_pack_whose_epoch_was_flipped_is_reported_as_damaged() -> None:
    storage, repository = with_a_block()
    name = pack_of(repository)
    whole = storage.objects[name]
    storage.objects[name] = whole[:10] + b"\x07" + whole[11:]
    report = check(repository, read_data=True)
    assert not report.is_good
    assert any(name in str(problem) for problem in report.problems)


def test_tokens_supersede_each_other() -> None:
    repository = make_repository()
    for value in ("one", "two", None):
        repository.set_token("vm", "disk", value, "p")
        assert opened_again(repository).state.tokens == {("vm", "disk"): (value, "p")}


moments = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2900, 1, 1)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=MOMENT.tzinfo)
)


@given(moment=moments)
def test_times_round_trip_in_milliseconds(moment: datetime) -> None:
    text = format_time(moment)
    assert text.endswith("Z")
    assert parse_time(text) == moment


@given(
    size=st.integers(0, 2**46),
    root=st.none() | st.binary(min_size=32, max_size=32),
    excluded=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=3).map(tuple),
    unknown=st.dictionaries(st.sampled_from(["hue", "angle"]), st.integers()),
)
def test_points_round_trip_with_what_newer_versions_say(
    size: int, root: bytes | None, excluded: tuple[tuple[int, int], ...], unknown: dict[str, Any]
) -> None:
    disk = PointDisk("disk", "id", Geometry(size, 512, 4096), 1 << 20, root, "source", excluded, unknown)
    point = make_point("a", [disk])
    document = {**point.to_json(), **unknown}
    read = RecoveryPoint.from_json(document, 7)
    assert (read.number, read.unknown, read.disks) == (7, unknown, (disk,))
    assert read.to_json() == document


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "2026-11-23T14:00:00"},
        {"time": 5},
        {"consistency": "hopeful"},
        {"disks": [{}]},
        {"documents": {"a": "z"}},
    ],
)
def test_a_point_that_makes_no_sense_is_damage(changes: dict[str, Any]) -> None:
    with pytest.raises(DamagedError, match="entry 9"):
        RecoveryPoint.from_json({**make_point("a").to_json(), **changes}, 9)


# Reading blobs.

BLOCK = noise(3000)
BLOCK_ID = IDS.id_of(BlobType.DATA, BLOCK)


def with_a_block() -> tuple[MemoryStorage, Repository]:
    storage = MemoryStorage()
    repository = make_repository(storage)
    commit_disk(repository, "a", [BLOCK])
    repository.refresh()
    return storage, repository


def second_copy(repository: Repository, seed: str) -> str:
    """The block once more, in a pack of its own; the pack's name."""
    other = opened_again(repository, seed)
    draft = other.draft()
    pack = store_pack(other, draft, [(BlobType.DATA, BLOCK)], PackKind.DATA)
    other.commit_upload(draft, "vm")
    return pack.object_name


def pack_of(repository: Repository) -> str:
    location = repository.index.find_one(BLOCK_ID)
    assert location is not None
    return location.object_name


def cut(data: bytes) -> bytes:
    return data[:200]


def flip(data: bytes) -> bytes:
    return data[:150] + bytes((data[150] ^ 1,)) + data[151:]


def test_a_blob_that_moved_meanwhile_is_found_by_reading_on() -> None:
    storage, repository = with_a_block()
    old = pack_of(repository)
    second_copy(repository, "second")
    segments = list(repository.state.segments)
    rewrite(opened_again(repository), drop=segments, delete=[old, *segments])
    for name in (old, *segments):
        del storage.objects[name]
    assert bytes(repository.read_blob(BLOCK_ID, BlobType.DATA)) == BLOCK


def test_a_damaged_copy_is_replaced_by_a_good_one() -> None:
    storage, repository = with_a_block()
    second_copy(repository, "second")
    repository.refresh()
    storage.objects[pack_of(repository)] = flip(storage.objects[pack_of(repository)])
    assert bytes(repository.read_blob(BLOCK_ID, BlobType.DATA)) == BLOCK


@pytest.mark.parametrize("harm", [flip, None])
def test_a_blob_with_no_good_copy_is_lost_by_name(harm: Callable[[bytes], bytes] | None) -> None:
    storage, repository = with_a_block()
    name = pack_of(repository)
    if harm:
        storage.objects[name] = harm(storage.objects[name])
    else:
        del storage.objects[name]
    with pytest.raises(DamagedError, match=name):
        repository.read_blob(BLOCK_ID, BlobType.DATA)


def test_a_pack_that_was_cut_off_is_never_read_as_something_else() -> None:
    storage, repository = with_a_block()
    name = pack_of(repository)
    storage.objects[name] = cut(storage.objects[name])
    with pytest.raises(StillframeError, match=name):
        repository.read_blob(BLOCK_ID, BlobType.DATA)


def test_a_failing_storage_is_not_a_lost_blob() -> None:
    storage, repository = with_a_block()
    name = pack_of(repository)
    storage.plan = lambda operation: Fault.FAILED if operation.name == name else None
    with pytest.raises(StorageError) as failure:
        repository.read_blob(BLOCK_ID, BlobType.DATA)
    assert not isinstance(failure.value, DamagedError)


def test_guest_data_never_passes_for_a_node() -> None:
    _, repository = with_a_block()
    with pytest.raises(DamagedError):
        repository.read_blob(BLOCK_ID, BlobType.NODE)
    with pytest.raises(DamagedError):
        repository.read_node(BLOCK_ID, 0)


def test_a_node_is_read_at_its_own_height_only() -> None:
    _, repository = with_a_block()
    root = repository.points()[0].disks[0].root
    assert root is not None
    assert repository.read_node(root, 0).entries == (BLOCK_ID,)
    with pytest.raises(DamagedError, match="height"):
        repository.read_node(root, 1)


def test_an_unknown_blob_is_lost_and_says_what_to_do() -> None:
    _, repository = with_a_block()
    with pytest.raises(DamagedError) as lost:
        repository.read_blob(bytes(32), BlobType.DATA)
    assert "check" in lost.value.hint


def test_a_segment_that_is_lost_is_damage_with_a_way_out() -> None:
    storage, repository = with_a_block()
    [segment] = repository.state.segments
    del storage.objects[segment]
    reader = opened_again(repository)
    with pytest.raises(DamagedError, match=segment) as lost:
        reader.refresh()
    assert "repair" in lost.value.hint


def test_a_segment_that_was_merged_meanwhile_is_no_damage() -> None:
    storage, repository = with_a_block()
    reader = opened_again(repository)
    [old] = repository.state.segments
    name, data = encode_segment(repository.index.segments[old], BUNDLE, seeded("merged"))
    storage.objects[name] = data
    rewrite(repository, add=[name], drop=[old], delete=[old])
    del storage.objects[old]
    reader.refresh()
    assert set(reader.index.segments) == {name}
    assert bytes(reader.read_blob(BLOCK_ID, BlobType.DATA)) == BLOCK


def test_a_segment_that_says_nothing_of_its_packs_leaves_them_out_of_the_index() -> None:
    storage, repository = with_a_block()
    name, data = encode_segment(segment_of_packs([]), BUNDLE, seeded("empty"))
    storage.objects[name] = data
    rewrite(repository, add=[name])
    repository.refresh()
    assert len(repository.index.segments) == 2
    assert len(repository.index) == 2


def test_threads_read_while_others_commit_and_refresh() -> None:
    """One log view serves all threads: none applies an entry twice."""
    _, repository = with_a_block()
    writer = opened_again(repository, "writer")

    def commit(number: int) -> None:
        commit_disk(writer, str(number), [noise(500, number)])
        repository.refresh()

    def miss(number: int) -> None:
        with pytest.raises(DamagedError, match="not in the repository"):
            repository.read_blob(bytes((number,)) * 32, BlobType.DATA)
        assert bytes(repository.read_blob(BLOCK_ID, BlobType.DATA)) == BLOCK

    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(miss, number) for number in range(1, 60)]
        for number in range(20):
            commit(number)
        for future in futures:
            future.result()
    assert repository.state == writer.state


@pytest.mark.parametrize("entries", [3, 1001])
def test_a_lost_entry_is_not_taken_for_the_end_of_the_log(entries: int) -> None:
    """Else the next writer would put an entry of its own into the hole, and split the log."""
    repository = make_repository()
    for _ in range(entries):
        append(repository, {"kind": "forget", "points": [], "reason": "a test"})
    storage = repository.storage
    assert isinstance(storage, MemoryStorage)
    lost = entries - 1
    for name in [*storage.list("checkpoint/"), entry_name(lost)]:
        storage.delete(name)
    with pytest.raises(DamagedError, match=f"entry {lost} is missing, but there are entries up to {entries}"):
        opened_again(repository)
