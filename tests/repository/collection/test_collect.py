"""Collections give back what nothing reaches, and nothing else, whoever else is at work."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stillframe.repository.blobs import BlobType
from stillframe.repository.checking.check import check
from stillframe.repository.collection import CollectReport, collect, collect_steps, consolidate
from stillframe.repository.collection import plan as plan_module
from stillframe.repository.collection.consolidate import consolidate_index
from stillframe.repository.entries import LOG_FOLDER
from stillframe.repository.errors import ConflictError, DamagedError, UnknownFeatureError
from stillframe.repository.nodes import encode_node
from stillframe.repository.operations import Operation as Step
from stillframe.repository.operations import Put, drive, perform
from stillframe.repository.packs import PackKind
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.segments import encode_segment, segment_of_packs
from stillframe.repository.storage.base import StorageError
from tests.repository.backups import (
    back_up,
    contents_of,
    new_repository,
    opened,
    overwrite,
    pack_names,
    random_disk,
    random_extents,
)
from tests.repository.make import BLOCK_BYTES, BUNDLE, IDS, WRITER, append, make_pack, noise
from tests.repository.storage.memory import Fault, MemoryStorage, Operation, every

DATA = noise(12 * BLOCK_BYTES)


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def repository(storage: MemoryStorage) -> Repository:
    return new_repository(storage)


def forget(repository: Repository, *points: RecoveryPoint) -> None:
    opened(repository).forget([point.point_id for point in points], "test")


def collected(repository: Repository, **options: bool) -> CollectReport:
    return collect(opened(repository), **options)


def is_good(repository: Repository) -> bool:
    return check(opened(repository), read_data=True).is_good


class Lives(RuleBasedStateMachine):
    """Machines that share blocks, writers that die, and collections in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = MemoryStorage()
        self.repository = new_repository(self.storage, fan_out=2, pack_bytes=3 * BLOCK_BYTES)
        self.disks: dict[str, bytes] = {}
        self.history: dict[str, tuple[RecoveryPoint, bytes]] = {}

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.random = Random(seed)

    @rule(machine=st.sampled_from("abc"))
    def full(self, machine: str) -> None:
        self.disks[machine] = random_disk(
            self.random, self.random.randrange(512, 6 * BLOCK_BYTES), BLOCK_BYTES
        )
        self._commit(machine, None)

    @rule(machine=st.sampled_from("abc"))
    def incremental(self, machine: str) -> None:
        parents = [point for point, _ in self.history.values() if point.machine == machine]
        parent = max(parents, key=lambda point: point.number, default=None)
        if parent is None:
            return
        data = self.history[parent.point_id][1]
        extents = random_extents(self.random, len(data), 3, 30_000)
        self.disks[machine] = overwrite(data, extents, self.random)
        point = back_up(
            opened(self.repository),
            {"disk": self.disks[machine]},
            machine=machine,
            parent=parent,
            changed={"disk": extents},
        )
        self.history[point.point_id] = (point, self.disks[machine])

    def _commit(self, machine: str, parent: RecoveryPoint | None) -> None:
        point = back_up(opened(self.repository), self.disks[machine], machine=machine, parent=parent)
        self.history[point.point_id] = (point, self.disks[machine])

    @rule()
    def forget_some(self) -> None:
        gone = [point for point in self.history if self.random.random() < 0.4]
        if gone:
            opened(self.repository).forget(gone, "test")
            for point in gone:
                del self.history[point]

    @rule(reader=st.booleans())
    def collect(self, reader: bool) -> None:
        collect(opened(self.repository, BUNDLE if reader else WRITER))

    @rule()
    def consolidate(self) -> None:
        consolidate_index(opened(self.repository))

    @rule(uploads=st.booleans())
    def a_run_dies(self, uploads: bool) -> None:
        writer = opened(self.repository)
        draft = writer.draft()
        pack = make_pack([(BlobType.DATA, noise(5000, self.random.random()))], seed=str(self.random.random()))
        drive(draft.put_pack(pack), self.storage)
        if uploads:
            writer.commit_upload(draft, "dead")

    @invariant()
    def every_point_restores(self) -> None:
        fresh = opened(self.repository)
        assert {point.point_id for point in fresh.points()} == set(self.history)
        for point, data in self.history.values():
            assert contents_of(fresh, point) == {"disk": data}

    def teardown(self) -> None:
        assert is_good(self.repository)
        opened(self.repository).forget(list(self.history), "end")
        for _ in range(4):
            collect(opened(self.repository))
        assert not pack_names(self.storage.objects)
        assert not [name for name in self.storage.objects if name.startswith("index/")]


Lives.TestCase.settings = settings(max_examples=30, stateful_step_count=20)
test_any_order_of_work_keeps_all_live_points = Lives.TestCase


@pytest.fixture
def _large_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every segment counts as large: none is merged for its smallness."""
    monkeypatch.setattr(plan_module, "SMALL_SEGMENT_ROWS", 0)
    monkeypatch.setattr(consolidate, "SMALL_SEGMENT_ROWS", 0)


def test_all_forgotten_and_the_store_is_empty(storage: MemoryStorage, repository: Repository) -> None:
    points = [back_up(repository, noise(9 * BLOCK_BYTES, n), machine=f"vm{n}") for n in range(3)]
    forget(repository, *points)
    report = collected(repository)
    assert report.deleted_packs > 0
    assert report.freed_bytes > 27 * BLOCK_BYTES
    assert {name.partition("/")[0] for name in storage.objects} == {"config", "log"}
    assert collected(repository).deleted_packs == 0


def test_what_a_live_point_shares_with_a_forgotten_one_stays(repository: Repository) -> None:
    first = back_up(repository, DATA)
    other = back_up(repository, DATA[: 6 * BLOCK_BYTES] + noise(100), machine="other")
    forget(repository, first)
    assert collected(repository).freed_bytes > 0
    assert contents_of(opened(repository), other) == {"disk": DATA[: 6 * BLOCK_BYTES] + noise(100)}


def test_a_collection_of_nothing_writes_nothing(storage: MemoryStorage, repository: Repository) -> None:
    back_up(repository, DATA)
    collected(repository)
    before = dict(storage.objects)
    assert collected(repository).rewritten_packs == 0
    assert storage.objects == before


def test_a_dry_run_changes_nothing_and_says_what_would_be(
    storage: MemoryStorage, repository: Repository
) -> None:
    first = back_up(repository, DATA)
    back_up(repository, DATA[: 7 * BLOCK_BYTES])
    forget(repository, first)
    storage.objects["data/ff/" + "ff" * 32] = b"left by a dead run"
    before = dict(storage.objects)
    would = collected(repository, dry_run=True)
    assert storage.objects == before
    did = collected(repository)
    assert (would.deleted_packs, would.rewritten_packs) == (did.deleted_packs, did.rewritten_packs)
    assert would.freed_bytes == did.freed_bytes > 0
    assert would.suspects == did.suspects == 1


def test_copies_of_the_same_blob_become_one(
    storage: MemoryStorage, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs at the same time do not see what the others store."""
    others = [opened(repository) for _ in range(3)]
    for other in others:
        other.refresh()
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "refresh", lambda self: None)
        for number, other in enumerate(others):
            back_up(other, DATA, machine=f"vm{number}")
    assert _stored_bytes(storage) > 2.9 * len(DATA)
    collected(repository)
    assert _stored_bytes(storage) < 1.2 * len(DATA)
    fresh = opened(repository)
    assert len(fresh.points()) == 3
    for point in fresh.points():
        assert contents_of(fresh, point) == {"disk": DATA}


def _stored_bytes(storage: MemoryStorage) -> int:
    return sum(len(storage.objects[name]) for name in pack_names(storage.objects, "data/"))


def test_a_writer_collects_dead_packs_but_rewrites_no_data(
    storage: MemoryStorage, repository: Repository
) -> None:
    first = back_up(repository, noise(20 * BLOCK_BYTES, "goes"))
    second = back_up(repository, DATA)
    third = back_up(repository, DATA[: 5 * BLOCK_BYTES])
    forget(repository, first, second)
    before = pack_names(storage.objects, "data/")
    report = collect(opened(repository, WRITER))
    after = pack_names(storage.objects, "data/")
    assert report.deleted_packs > 0
    assert report.left_wasteful
    assert set(after) < set(before)  # some are gone, none is new
    assert not collected(repository).left_wasteful  # with the reader's key they are rewritten
    assert set(pack_names(storage.objects, "data/")) - set(before)
    assert contents_of(opened(repository), third) == {"disk": DATA[: 5 * BLOCK_BYTES]}


def test_blobs_and_trees_of_windows_are_kept(storage: MemoryStorage, repository: Repository) -> None:
    draft = opened(repository)
    work = draft.draft()
    below = noise(5000, "below")
    leaf = encode_node(0, [IDS.id_of(BlobType.DATA, below)])
    top = encode_node(1, [IDS.id_of(BlobType.NODE, leaf)])
    lone = noise(3000, "lone")
    data = make_pack([(BlobType.DATA, below), (BlobType.DATA, lone)], seed="w1")
    meta = make_pack([(BlobType.NODE, leaf), (BlobType.NODE, top)], PackKind.METADATA, seed="w2")
    for pack in (data, meta):
        drive(work.put_pack(pack), storage)
    segment = segment_of_packs([data.stored, meta.stored])
    name, content = encode_segment(segment, BUNDLE)
    storage.put_if_absent(name, content)
    window: dict[str, Any] = {
        "kind": "window",
        "window": "w",
        "head": {"end": 5},
        "blobs": [IDS.id_of(BlobType.DATA, lone).hex()],
        "trees": [[IDS.id_of(BlobType.NODE, top).hex(), 1]],
        "add": [name],
    }
    append(draft, window)
    for _ in range(3):
        collected(repository)
    fresh = opened(repository)
    for data_then in (below, lone):
        assert bytes(fresh.read_blob(IDS.id_of(BlobType.DATA, data_then), BlobType.DATA)) == data_then
    append(opened(repository), {**window, "head": None, "blobs": [], "trees": [], "add": []})
    collected(repository)
    assert not pack_names(storage.objects)


def test_unknown_kinds_of_entries_refuse(storage: MemoryStorage, repository: Repository) -> None:
    point = back_up(repository, DATA)
    forget(repository, point)
    append(opened(repository), {"kind": "hologram"})
    before = dict(storage.objects)
    with pytest.raises(UnknownFeatureError):
        collected(repository)
    assert consolidate_index(opened(repository)) == 0
    assert storage.objects == before


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_node_refuses_and_deletes_nothing(
    storage: MemoryStorage, repository: Repository, damage: str
) -> None:
    first = back_up(repository, DATA)
    back_up(repository, noise(9 * BLOCK_BYTES, 2), machine="other")
    forget(repository, first)
    name = pack_names(storage.objects, "meta/")[0]
    for name in pack_names(storage.objects, "meta/"):
        if damage == "missing":
            del storage.objects[name]
        else:
            storage.objects[name] = storage.objects[name][:60] + b"\xff\xff" + storage.objects[name][62:]
    before = dict(storage.objects)
    with pytest.raises(DamagedError):
        collected(repository)
    assert storage.objects == before


def test_a_damaged_live_blob_is_not_lost_to_a_rewrite(storage: MemoryStorage, repository: Repository) -> None:
    """Its pack is worth rewriting; what is damaged in it must stay for a repair."""
    first = back_up(repository, DATA)
    second = back_up(repository, DATA[: 5 * BLOCK_BYTES])
    forget(repository, first)
    for name in pack_names(storage.objects, "data/"):
        storage.objects[name] = storage.objects[name][:5000] + b"\xff" + storage.objects[name][5001:]
    packs = pack_names(storage.objects, "data/")
    with pytest.raises(DamagedError):
        collected(repository)
    assert pack_names(storage.objects, "data/") == packs
    assert opened(repository).points() == [second]


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.HAPPENED])
@pytest.mark.parametrize("kind", ["put", "delete"])
def test_a_storage_that_fails_at_any_step_loses_nothing(kind: str, fault: Fault) -> None:
    """A full disk, a lost connection: the next collection does the rest."""
    storage = MemoryStorage()
    repository = new_repository(storage)
    first = back_up(repository, DATA)
    second = back_up(repository, DATA[: 5 * BLOCK_BYTES])
    forget(repository, first)
    begin = storage.copy()
    number = 0
    while True:
        place = begin.copy()
        copy = Repository(place, opened(repository).knowledge)
        count = iter(range(100_000))

        def plan(operation: Operation, count: Any = count, number: int = number) -> Fault | None:
            return fault if operation.kind == kind and next(count) == number else None

        place.plan = plan
        try:
            collect(copy)
        except StorageError:
            place.plan = lambda _: None
            assert contents_of(opened(copy), second) == {"disk": DATA[: 5 * BLOCK_BYTES]}
            for _ in range(4):
                collect(opened(copy))
            assert is_good(copy)
            assert not _unnamed(place, opened(copy))
        if next(count) <= number:
            break
        number += 1
    assert number > 1


def _unnamed(storage: MemoryStorage, repository: Repository) -> list[str]:
    repository.refresh()
    named = {f"{kind.folder}/{i.hex()[:2]}/{i.hex()}" for i, (kind, _) in repository.index.packs.items()}
    return [name for name in pack_names(storage.objects) if name not in named]


@pytest.mark.parametrize("fault", [Fault.SHORT, Fault.EMPTY, Fault.STALE, Fault.BROKEN_OFF])
def test_a_listing_that_lies_deletes_nothing_live(
    storage: MemoryStorage, repository: Repository, fault: Fault
) -> None:
    first = back_up(repository, DATA)
    storage.remember_names()
    second = back_up(repository, noise(8 * BLOCK_BYTES, 2), machine="other")
    storage.objects["data/ff/" + "ff" * 32] = b"left by a dead run"
    storage.plan = every("list", fault)
    for _ in range(3):
        try:
            collect(_opened_with(storage, repository))
        except StorageError:
            assert fault is Fault.BROKEN_OFF
    storage.plan = lambda _: None
    fresh = opened(repository)
    assert contents_of(fresh, first) == {"disk": DATA}
    assert contents_of(fresh, second) == {"disk": noise(8 * BLOCK_BYTES, 2)}


def _opened_with(storage: MemoryStorage, repository: Repository) -> Repository:
    plan, storage.plan = storage.plan, lambda _: None
    other = opened(repository)
    storage.plan = plan
    return other


def test_what_a_dead_run_left_goes_in_the_second_collection(
    storage: MemoryStorage, repository: Repository
) -> None:
    back_up(repository, DATA)
    left = "data/ff/" + "ff" * 32
    storage.objects[left] = b"left by a dead run"
    assert collected(repository).suspects == 1
    assert left in storage.objects
    assert collected(repository).deleted_orphans == 1
    assert left not in storage.objects


def test_an_upload_lives_through_two_collections(storage: MemoryStorage, repository: Repository) -> None:
    writer = opened(repository)
    draft = writer.draft()
    pack = make_pack([(BlobType.DATA, noise(5000))])
    drive(draft.put_pack(pack), storage)
    writer.commit_upload(draft, "vm")
    for _ in range(2):
        collected(repository)
        assert pack.object_name in storage.objects
    collected(repository)
    assert pack.object_name not in storage.objects


def test_after_a_writer_slept_through_collections_its_draft_is_refused(
    storage: MemoryStorage, repository: Repository
) -> None:
    writer = opened(repository)
    draft = writer.draft()
    drive(draft.put_pack(make_pack([(BlobType.DATA, noise(5000))])), storage)
    for _ in range(2):
        collected(repository)
    with pytest.raises(ConflictError):
        writer.commit_upload(draft, "vm")


def paused_before_its_entry(repository: Repository, meanwhile: Callable[[], None]) -> CollectReport:
    """A collection that stands still when all is ready but its entry, while ``meanwhile`` happens."""
    storage = repository.storage
    steps = collect_steps(repository.knowledge)
    done = False
    answer: Any = None
    try:
        step: Step = next(steps)
        while True:
            if isinstance(step, Put) and step.name.startswith(LOG_FOLDER) and not done:
                done = True
                meanwhile()
            try:
                answer = perform(step, storage)
            except StorageError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        assert done
        report: CollectReport = stop.value
        return report


def test_a_collection_that_slept_does_not_name_packs_that_others_swept(
    storage: MemoryStorage, repository: Repository
) -> None:
    """Its copies looked abandoned. Only collections without the reader's key leave its plan in force."""
    first = back_up(repository, DATA)
    second = back_up(repository, DATA[: 5 * BLOCK_BYTES])
    forget(repository, first)
    collect(opened(repository, WRITER))  # the dead packs go, and what only a reader can do remains

    def sweep_twice() -> None:
        for _ in range(2):
            collect(opened(repository, WRITER))

    paused_before_its_entry(opened(repository), sweep_twice)
    assert contents_of(opened(repository), second) == {"disk": DATA[: 5 * BLOCK_BYTES]}
    assert is_good(repository)


@pytest.mark.usefixtures("_large_segments")
def test_two_collections_do_not_each_keep_the_others_copy(
    storage: MemoryStorage, repository: Repository
) -> None:
    """Two packs of one size with one blob: who read the index in another order keeps the other copy."""
    blob = (BlobType.DATA, noise(BLOCK_BYTES))
    point = back_up(repository, blob[1])
    twin = make_pack([blob], seed="twin")
    name, content = encode_segment(segment_of_packs([twin.stored]), BUNDLE)
    storage.put_if_absent(twin.object_name, twin.data)
    storage.put_if_absent(name, content)
    append(opened(repository), {"kind": "rewrite", **_ADD_ONLY, "add": [name]})
    sizes = {len(storage.objects[pack]) for pack in pack_names(storage.objects, "data/")}
    assert len(sizes) == 1
    forwards, backwards = opened(repository), opened(repository)
    for other in (forwards, backwards):
        other.refresh()
    index = backwards.knowledge.index
    backwards.knowledge._index = type(index)(dict(reversed(index.segments.items())))
    paused_before_its_entry(forwards, lambda: void(collect(backwards)))
    assert contents_of(opened(repository), point) == {"disk": blob[1]}
    assert is_good(repository)


_ADD_ONLY: dict[str, Any] = {"drop": [], "delete": [], "suspects": [], "sweep": False}


def void(_: object) -> None:
    """For lambdas that must give nothing."""


def test_a_pack_that_an_upload_lists_stays_though_another_segment_lists_it_too(
    storage: MemoryStorage, repository: Repository
) -> None:
    """As after a repair of the index beside a running writer."""
    writer = opened(repository)
    draft = writer.draft()
    pack = make_pack([(BlobType.DATA, noise(5000))])
    drive(draft.put_pack(pack), storage)
    name, content = encode_segment(segment_of_packs([pack.stored]), BUNDLE)
    storage.put_if_absent(name, content)
    append(opened(repository), {"kind": "rewrite", **_ADD_ONLY, "add": [name]})
    writer.commit_upload(draft, "vm")
    collected(repository)
    assert pack.object_name in storage.objects
    point = back_up(opened(repository), noise(5000))
    assert contents_of(opened(repository), point) == {"disk": noise(5000)}


def test_a_pack_that_a_new_segment_lists_is_not_deleted(
    storage: MemoryStorage, repository: Repository
) -> None:
    writer = opened(repository)
    draft = writer.draft()
    pack = make_pack([(BlobType.DATA, noise(5000))])
    drive(draft.put_pack(pack), storage)
    name, content = encode_segment(segment_of_packs([pack.stored]), BUNDLE)
    storage.put_if_absent(name, content)
    append(opened(repository), {"kind": "rewrite", **_ADD_ONLY, "add": [name]})
    paused_before_its_entry(opened(repository), lambda: void(writer.commit_upload(draft, "vm")))
    assert pack.object_name in storage.objects


def test_a_point_that_comes_during_the_collection_keeps_its_blobs(repository: Repository) -> None:
    first = back_up(repository, DATA)
    forget(repository, first)
    points: list[RecoveryPoint] = []

    def point_of_dead_blobs() -> None:
        points.append(back_up(opened(repository), DATA, machine="other"))

    paused_before_its_entry(opened(repository), point_of_dead_blobs)
    assert contents_of(opened(repository), points[0]) == {"disk": DATA}
    assert is_good(repository)


def test_many_small_segments_become_one(storage: MemoryStorage, repository: Repository) -> None:
    points = [back_up(repository, noise(600, n), machine=f"vm{n}") for n in range(consolidate.MANY_SEGMENTS)]
    assert consolidate_index(opened(repository, WRITER)) == consolidate.MANY_SEGMENTS
    assert len([name for name in storage.objects if name.startswith("index/")]) == 1
    assert consolidate_index(opened(repository)) == 0
    fresh = opened(repository)
    for number, point in enumerate(points):
        assert contents_of(fresh, point) == {"disk": noise(600, number)}


def test_consolidation_beside_a_consolidation(
    storage: MemoryStorage, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consolidate, "MANY_SEGMENTS", 4)
    points = [back_up(repository, noise(600, n), machine=f"vm{n}") for n in range(5)]
    other, slow = opened(repository), opened(repository)
    calls: list[int] = []

    def race(operation: Operation) -> None:
        if operation.kind == "put" and operation.name.startswith(LOG_FOLDER) and not calls:
            calls.append(1)
            assert consolidate_index(other) == 5

    storage.plan = race
    assert consolidate_index(slow) == 0
    storage.plan = lambda _: None
    fresh = opened(repository)
    assert len(fresh.state.segments) == 1
    for number, point in enumerate(points):
        assert contents_of(fresh, point) == {"disk": noise(600, number)}


def test_tiny_packs_are_not_rewritten_for_ever(repository: Repository) -> None:
    """They are mostly header and directory; that is no waste that copying would mend."""
    back_up(repository, noise(100))
    assert [collected(repository).rewritten_packs for _ in range(3)] == [0, 0, 0]


def test_small_packs_are_brought_together_once(storage: MemoryStorage, repository: Repository) -> None:
    points = [back_up(repository, noise(3000, n), machine=f"vm{n}") for n in range(12)]
    assert len(pack_names(storage.objects)) == 24
    assert collected(repository).rewritten_packs == 24
    assert len(pack_names(storage.objects)) == 2
    assert collected(repository).rewritten_packs == 0
    for number, point in enumerate(points):
        assert contents_of(opened(repository), point) == {"disk": noise(3000, number)}


def test_a_large_rewrite_goes_in_passes(
    storage: MemoryStorage, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the space needed meanwhile is bounded."""
    monkeypatch.setattr(plan_module, "MAX_COPY_BYTES", 2 * BLOCK_BYTES)
    data = noise(32 * BLOCK_BYTES)
    first = back_up(repository, data)
    half = b"".join(data[n * 2 * BLOCK_BYTES : (n * 2 + 1) * BLOCK_BYTES] for n in range(16))
    second = back_up(repository, half, machine="other")
    forget(repository, first)
    before = opened(repository).state.number
    largest = _stored_bytes(storage)
    collected(repository)
    assert opened(repository).state.number - before > 3
    assert _stored_bytes(storage) < 0.6 * largest
    assert contents_of(opened(repository), second) == {"disk": half}
