"""What a run relies on until its commit: when the commit must be refused, and when not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stillframe.repository.blobs import BlobType
from stillframe.repository.draft import Draft
from stillframe.repository.entries import entry_name
from stillframe.repository.errors import ConflictError
from stillframe.repository.operations import drive
from stillframe.repository.packs import PackKind, SealedPack
from stillframe.repository.repository import Repository
from stillframe.repository.segments import encode_segment, segment_of_packs
from stillframe.repository.storage.base import StorageError
from tests.repository.make import (
    BLOCK_BYTES,
    IDS,
    commit_disk,
    make_pack,
    make_point,
    make_repository,
    noise,
    opened_again,
    rewrite,
    store_disk,
    store_pack,
)
from tests.repository.storage.memory import Fault, MemoryStorage, every


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def repository(storage: MemoryStorage) -> Repository:
    return make_repository(storage)


def entries_of(storage: MemoryStorage) -> int:
    return sum(name.startswith("log/") for name in storage.objects)


def packs_in(storage: MemoryStorage, folder: str = "data/") -> list[str]:
    return [name for name in storage.objects if name.startswith(folder)]


def reuse_everything(repository: Repository, draft: Draft) -> None:
    """Count on every blob of the repository, as a run does that finds them all."""
    for pack_id in repository.index.packs:
        for row in repository.index.rows_of(pack_id):
            location = repository.index.find_one(row.blob_id)
            assert location is not None
            draft.reuse(location.object_name, [row.blob_id])


def collect(repository: Repository, storage: MemoryStorage, moved: Sequence[SealedPack] = ()) -> None:
    """Delete every pack and segment; the blobs live on in the packs that are given, if any."""
    repository.refresh()
    old = list(repository.state.segments)
    packs = [name for name in storage.objects if name.startswith(("data/", "meta/"))]
    added = []
    if moved:
        segment = segment_of_packs([pack.stored for pack in moved])
        name, data = encode_segment(segment, repository.knowledge.bundle, repository.knowledge.entropy)
        storage.objects[name] = data
        added = [name]
        for pack in moved:
            storage.objects[pack.object_name] = bytes(pack.data)
    rewrite(repository, add=added, drop=old, delete=[*old, *packs], sweep=True)
    for name in [*old, *packs]:
        del storage.objects[name]


def copies_of_all_packs(repository: Repository, storage: MemoryStorage) -> list[SealedPack]:
    """What consolidation writes: the same blobs in other packs."""
    scratch = make_repository(MemoryStorage(), seed="scratch")
    draft = scratch.draft()
    packs = []
    for pack_id, (kind, _) in repository.index.packs.items():
        rows = repository.index.rows_of(pack_id)
        blobs = [(row.kind, bytes(repository.read_blob(row.blob_id, row.kind))) for row in rows]
        packs.append(store_pack(scratch, draft, blobs, kind))
    return packs


def test_a_commit_makes_its_blobs_findable_for_all(repository: Repository) -> None:
    point = commit_disk(repository, "a", [noise(3000), None, noise(3000, 1)])
    other = opened_again(repository)
    assert [known.point_id for known in other.points()] == [point.point_id]
    for seed in (0, 1):
        blob_id = IDS.id_of(BlobType.DATA, noise(3000, seed))
        assert bytes(other.read_blob(blob_id, BlobType.DATA)) == noise(3000, seed)


def test_law_1_packs_then_segments_then_the_entry(repository: Repository, storage: MemoryStorage) -> None:
    commit_disk(repository, "a", [noise(3000)])
    puts = [op.name.split("/")[0] for op in storage.operations if op.kind == "put"]
    assert puts == ["config", "data", "meta", "index", "log"]


def test_a_point_without_new_blobs_adds_no_segment(repository: Repository, storage: MemoryStorage) -> None:
    draft = repository.draft()
    repository.commit_point(draft, make_point("a"))
    assert not packs_in(storage, "index/")
    assert len(repository.points()) == 1


def test_a_base_that_was_forgotten_is_a_conflict(repository: Repository, storage: MemoryStorage) -> None:
    base = commit_disk(repository, "a", [noise(3000)])
    draft = repository.draft()
    opened_again(repository).forget([base.point_id], "test")
    with pytest.raises(ConflictError, match=base.point_id) as refused:
        repository.commit_point(draft, make_point("b", base.disks), [base.point_id])
    assert refused.value.exit_code == 6
    assert entries_of(storage) == 2


def test_a_base_that_never_was_is_a_conflict(repository: Repository) -> None:
    with pytest.raises(ConflictError):
        repository.commit_point(repository.draft(), make_point("b"), ["0" * 16])


@pytest.mark.parametrize("folder", ["data/", "meta/"])
def test_a_pack_of_this_run_that_was_deleted_is_a_conflict(
    repository: Repository, storage: MemoryStorage, folder: str
) -> None:
    draft = repository.draft()
    disk = store_disk(repository, draft, [noise(3000)], "disk")
    rewrite(opened_again(repository), delete=packs_in(storage, folder))
    with pytest.raises(ConflictError):
        repository.commit_point(draft, make_point("a", [disk]))
    assert entries_of(storage) == 1


def test_blobs_counted_on_that_were_collected_are_a_conflict_however_often_it_is_tried(
    repository: Repository, storage: MemoryStorage
) -> None:
    base = commit_disk(repository, "a", [noise(3000)])
    draft = repository.draft()
    reuse_everything(repository, draft)
    collector = opened_again(repository)
    collector.forget([base.point_id], "test")
    collect(collector, storage)
    for _ in range(3):
        with pytest.raises(ConflictError, match="collected"):
            repository.commit_point(draft, make_point("b", base.disks))
    assert entries_of(storage) == 3


def test_blobs_counted_on_that_were_consolidated_elsewhere_are_fine(
    repository: Repository, storage: MemoryStorage
) -> None:
    base = commit_disk(repository, "a", [noise(3000), noise(3000, 1)])
    draft = repository.draft()
    reuse_everything(repository, draft)
    collector = opened_again(repository)
    collect(collector, storage, copies_of_all_packs(collector, storage))
    repository.commit_point(draft, make_point("b", base.disks), [base.point_id])
    reader = opened_again(repository)
    assert len(reader.points()) == 2
    blob_id = IDS.id_of(BlobType.DATA, noise(3000, 1))
    assert bytes(reader.read_blob(blob_id, BlobType.DATA)) == noise(3000, 1)


def test_blobs_moved_twice_and_then_collected_are_a_conflict(
    repository: Repository, storage: MemoryStorage
) -> None:
    """The second check has to look for the places that the first one found."""
    base = commit_disk(repository, "a", [noise(3000)])
    draft = repository.draft()
    reuse_everything(repository, draft)
    collector = opened_again(repository)
    collect(collector, storage, copies_of_all_packs(collector, storage))
    raced = False

    def collect_before_the_put(operation: object) -> Fault | None:
        nonlocal raced
        if (
            getattr(operation, "name", "") == entry_name(3)
            and getattr(operation, "kind", "") == "put"
            and not raced
        ):
            raced = True
            collector.forget([base.point_id], "test")
            collect(collector, storage)
        return None

    storage.plan = collect_before_the_put
    with pytest.raises(ConflictError, match="collected"):
        repository.commit_point(draft, make_point("b", base.disks))
    assert raced
    assert entries_of(storage) == 4


def test_what_happened_between_check_and_put_is_checked_again(
    repository: Repository, storage: MemoryStorage
) -> None:
    base = commit_disk(repository, "a", [noise(3000)])
    draft = repository.draft()
    other = opened_again(repository)
    raced = False

    def forget_before_the_put(operation: object) -> Fault | None:
        nonlocal raced
        if (
            getattr(operation, "name", "") == entry_name(2)
            and getattr(operation, "kind", "") == "put"
            and not raced
        ):
            raced = True
            other.forget([base.point_id], "test")
        return None

    storage.plan = forget_before_the_put
    with pytest.raises(ConflictError, match="forgotten"):
        repository.commit_point(draft, make_point("b", base.disks), [base.point_id])
    assert raced


def test_deletions_before_the_run_began_do_not_matter(repository: Repository, storage: MemoryStorage) -> None:
    rewrite(repository, delete=["data/aa/" + "a" * 64])
    draft = repository.draft()
    draft.reuse("data/aa/" + "a" * 64, [bytes(32)])
    repository.commit_point(draft, make_point("a"))
    assert entries_of(storage) == 2


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.HAPPENED])
@pytest.mark.parametrize("prefix", ["index/", "log/"])
def test_a_commit_that_failed_can_be_tried_again_and_loses_nothing(
    repository: Repository, storage: MemoryStorage, fault: Fault, prefix: str
) -> None:
    draft = repository.draft()
    disk = store_disk(repository, draft, [noise(3000)], "disk")
    point = make_point("a", [disk])
    storage.plan = every("put", fault, prefix)
    if (fault, prefix) == (Fault.HAPPENED, "log/"):
        repository.commit_point(draft, point)
    else:
        with pytest.raises(StorageError):
            repository.commit_point(draft, point)
        assert entries_of(storage) == 0
        storage.plan = lambda _: None
        repository.commit_point(draft, point)
    reader = opened_again(repository)
    root = reader.points()[0].disks[0].root
    assert root is not None
    reference = reader.read_node(root, 0).entries[0]
    assert isinstance(reference, bytes)
    assert bytes(reader.read_blob(reference, BlobType.DATA)) == noise(3000)


def test_an_upload_makes_blobs_findable_without_a_point(repository: Repository) -> None:
    draft = repository.draft()
    pack = store_pack(repository, draft, [(BlobType.DATA, noise(3000))], PackKind.DATA)
    repository.commit_upload(draft, "vm")
    other = opened_again(repository)
    blob_id = pack.stored.rows[0].blob_id
    assert bytes(other.read_blob(blob_id, BlobType.DATA)) == noise(3000)
    assert (other.points(), list(other.state.uploads.values())) == ([], [0])


def test_a_point_after_an_upload_adds_only_what_came_after(repository: Repository) -> None:
    draft = repository.draft()
    store_pack(repository, draft, [(BlobType.DATA, noise(3000))], PackKind.DATA)
    repository.commit_upload(draft, "vm")
    disk = store_disk(repository, draft, [noise(3000, 1)], "disk")
    repository.commit_point(draft, make_point("a", [disk]))
    assert len(repository.state.segments) == 2
    repository.refresh()
    assert len(repository.index) == 3


def test_an_upload_that_was_swept_away_is_a_conflict_for_its_own_run(
    repository: Repository, storage: MemoryStorage
) -> None:
    draft = repository.draft()
    store_pack(repository, draft, [(BlobType.DATA, noise(3000))], PackKind.DATA)
    repository.commit_upload(draft, "vm")
    collect(opened_again(repository), storage)
    with pytest.raises(ConflictError):
        repository.commit_point(draft, make_point("a"))


def test_two_runs_that_store_the_same_both_commit(repository: Repository) -> None:
    """Equal data stored at once is stored twice and lost never."""
    other = opened_again(repository)
    drafts = [repository.draft(), other.draft()]
    disks = [
        store_disk(view, draft, [noise(3000)], "disk")
        for view, draft in zip((repository, other), drafts, strict=True)
    ]
    repository.commit_point(drafts[0], make_point("a", [disks[0]]))
    other.commit_point(drafts[1], make_point("b", [disks[1]]))
    repository.refresh()
    blob_id = IDS.id_of(BlobType.DATA, noise(3000))
    assert len(repository.index.copies(blob_id)) == 2
    assert disks[0] == disks[1]
    assert len(repository.points()) == 2


def test_a_pack_is_stored_once_and_its_loss_is_told(repository: Repository, storage: MemoryStorage) -> None:
    draft = repository.draft()
    storage.plan = every("put", Fault.FAILED, "data/")
    with pytest.raises(StorageError):
        store_pack(repository, draft, [(BlobType.DATA, noise(3000))], PackKind.DATA)
    storage.plan = lambda _: None
    drive(draft.commit_upload("vm"), storage)
    assert not repository.state.segments


class RepeatsPuts(MemoryStorage):
    """Like a client that tries again below us after a lost answer: the second try is refused."""

    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        super().put_if_absent(name, data)
        return super().put_if_absent(name, data)


def test_a_put_repeated_below_us_is_our_own() -> None:
    repository = make_repository()
    assert isinstance(repository.storage, MemoryStorage)
    repository.storage = RepeatsPuts(repository.storage.objects)
    point = commit_disk(repository, "0" * 16, [noise(BLOCK_BYTES)])
    assert opened_again(repository).points() == [point]


def test_half_a_pack_under_its_name_is_never_taken_for_the_pack() -> None:
    repository = make_repository()
    pack = make_pack([(BlobType.DATA, noise(BLOCK_BYTES))])
    repository.storage.put_if_absent(pack.object_name, bytes(pack.data)[:100])
    with pytest.raises(StorageError, match="other bytes"):
        drive(repository.draft().put_pack(pack), repository.storage)
