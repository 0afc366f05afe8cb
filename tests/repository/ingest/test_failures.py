"""A run that fails, at whatever place: no point, no thread left, and the next run goes on from there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Queue
from typing import Any

import pytest

from stillframe.disk.still import Extent
from stillframe.errors import CorruptInputError
from stillframe.repository.blobs import Compressor
from stillframe.repository.errors import DamagedError
from stillframe.repository.ingest import IngestRun, Statistics
from stillframe.repository.ingest import run as run_module
from stillframe.repository.ingest.stages import Stages
from stillframe.repository.ingest.worker import Worker
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.packs import PackBuilder
from stillframe.repository.points import PointDisk
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import StorageError
from tests.repository.backups import (
    BytesDisk,
    back_up,
    contents_of,
    new_point,
    new_repository,
    opened,
    pack_names,
)
from tests.repository.make import BLOCK_BYTES, BUNDLE, noise
from tests.repository.storage.memory import Fault, MemoryStorage, every, fault_at

DATA = noise(40 * BLOCK_BYTES)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    """Whatever happens to a run, its threads end with it."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("stillframe")]
    assert not left


def run_over(repository: Repository, disk: BytesDisk) -> None:
    with IngestRun(repository, "vm") as run:
        root = run.scan(disk)
        taken = PointDisk("disk", disk.disk_id, disk.geometry, BLOCK_BYTES, root)
        run.commit(new_point("vm", [taken]), [])


def raising_at(offset_bytes: int, error: BaseException) -> Callable[[int], None]:
    def hook(offset: int) -> None:
        if offset >= offset_bytes:
            raise error

    return hook


def next_run(repository: Repository) -> Statistics:
    """The same disk again, which goes well; what it did."""
    statistics = Statistics()
    point = back_up(opened(repository), DATA, statistics=statistics)
    fresh = opened(repository)
    assert fresh.points() == [point]
    assert contents_of(fresh, point) == {"disk": DATA}
    return statistics


def test_a_disk_that_cannot_be_read_at_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository()
    monkeypatch.setattr("stillframe.repository.ingest.plan.BATCH_BYTES", 2 * BLOCK_BYTES)
    with pytest.raises(CorruptInputError, match="bad sector"):
        run_over(
            repository, BytesDisk(DATA, hook=raising_at(30 * BLOCK_BYTES, CorruptInputError("bad sector")))
        )
    assert opened(repository).points() == []
    assert next_run(repository).found_bytes >= 8 * BLOCK_BYTES


def test_an_exception_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository()
    calls = iter(range(1000))
    original = Worker.process

    def process(self: Worker, *args: Any) -> Any:
        if next(calls) == 3:
            raise MemoryError("none left")
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr("stillframe.repository.ingest.plan.BATCH_BYTES", 2 * BLOCK_BYTES)
        patch.setattr(Worker, "process", process)
        with pytest.raises(MemoryError):
            run_over(repository, BytesDisk(DATA))
    assert opened(repository).points() == []
    next_run(repository)


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.HAPPENED])
def test_every_put_fails_once(fault: Fault) -> None:
    storage = MemoryStorage()
    run_over(new_repository(storage), BytesDisk(DATA))
    puts = [operation.number for operation in storage.operations if operation.kind == "put"][1:]
    for number in puts:
        storage = MemoryStorage()
        repository = new_repository(storage)
        before = storage.copy()
        storage.plan = fault_at(number, fault)
        try:
            run_over(repository, BytesDisk(DATA))
            committed = True
        except StorageError:
            committed = False
        storage.plan = lambda _: None
        points = opened(repository).points()
        assert len(points) == committed
        for point in points:
            assert contents_of(opened(repository), point) == {"disk": DATA}
        if not committed:
            next_run(repository)
        assert before.objects.items() <= storage.objects.items()


def test_a_full_storage_gives_its_own_error_not_that_of_a_stopped_thread() -> None:
    storage = MemoryStorage()
    repository = new_repository(storage)
    storage.plan = every("put", Fault.FAILED, "data/")
    with pytest.raises(StorageError, match="put data/"):
        run_over(repository, BytesDisk(DATA))
    storage.plan = every("put", Fault.FAILED, "meta/")
    with pytest.raises(StorageError, match="put meta/"):
        run_over(repository, BytesDisk(DATA))
    storage.plan = every("put", Fault.FAILED, "index/")
    with pytest.raises(StorageError, match="put index/"):
        run_over(repository, BytesDisk(DATA))
    storage.plan = lambda _: None
    next_run(repository)


def test_ctrl_c_in_the_caller_keeps_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository()
    monkeypatch.setattr("stillframe.repository.ingest.plan.BATCH_BYTES", BLOCK_BYTES)
    original = IngestRun._store_node

    def interrupted(self: IngestRun, height: int, entries: Any) -> bytes:
        node = original(self, height, entries)
        if height == 1:
            raise KeyboardInterrupt
        return node

    with monkeypatch.context() as patch:
        patch.setattr(IngestRun, "_store_node", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_over(repository, BytesDisk(DATA))
    assert opened(repository).points() == []
    assert next_run(repository).found_bytes > 0


def test_what_could_not_be_kept_is_noted_on_the_error() -> None:
    storage = MemoryStorage()
    repository = new_repository(storage)

    def hook(offset: int) -> None:
        storage.plan = every("put", Fault.FAILED)
        raise CorruptInputError("bad sector")

    with pytest.raises(CorruptInputError, match="bad sector"):
        run_over(repository, BytesDisk(noise(10), hook=hook))
    storage.plan = lambda _: None
    next_run(repository)


def test_a_killed_run_is_found_up_to_its_last_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed: nothing at all happens after the last operation that reached the storage."""
    monkeypatch.setattr(run_module, "PACKS_PER_UPLOAD", 2)
    storage = MemoryStorage()
    repository = new_repository(storage)
    states: list[MemoryStorage] = []
    original = MemoryStorage.put_if_absent

    def put(self: MemoryStorage, name: str, data: Any) -> bool:
        if self is storage and name.startswith("data/"):
            states.append(self.copy())
        return original(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStorage, "put_if_absent", put)
        run_over(repository, BytesDisk(DATA))
    found = []
    for state in states:
        statistics = Statistics()
        left = Repository(state, Knowledge(repository.config, BUNDLE))
        point = back_up(left, DATA, statistics=statistics)
        assert contents_of(opened(left), point) == {"disk": DATA}
        found.append(statistics.found_bytes)
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] >= len(DATA) // 2


def test_uploads_within_a_run_lose_and_repeat_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PACKS_PER_UPLOAD", 1)
    storage = MemoryStorage()
    repository = new_repository(storage, pack_bytes=2 * BLOCK_BYTES)
    data = DATA + DATA
    statistics = Statistics()
    point = back_up(repository, data, statistics=statistics)
    assert contents_of(opened(repository), point) == {"disk": data}
    assert len(DATA) <= statistics.new_bytes <= len(DATA) + 16 * BLOCK_BYTES  # what was open meanwhile
    assert statistics.new_bytes + statistics.found_bytes == statistics.read_bytes


@pytest.mark.parametrize("corrupt", ["compressor", "cipher", "memory"])
def test_a_flipped_bit_before_the_commit_is_found(monkeypatch: pytest.MonkeyPatch, corrupt: str) -> None:
    """Decoded and compared before anything is stored: peers lost data to each of these."""
    calls = iter(range(1000))

    def flipped(data: Any) -> bytes:
        copy = bytearray(data)
        copy[len(copy) // 2] ^= 4
        return bytes(copy)

    def encode(self: Compressor, data: Any) -> Any:
        codec, coded = original_encode(self, data)
        return codec, flipped(coded) if next(calls) == 5 else coded

    def add(self: PackBuilder, *args: Any) -> Any:
        row = original_add(self, *args)
        if next(calls) == 5:
            self._buffer[row.offset_bytes + 7] ^= 1
        return row

    def identify(self: Worker, batch: Any, data: memoryview) -> Any:
        parts = original_identify(self, batch, data)
        if next(calls) == 0:
            data[100] ^= 1
        return parts

    original_encode, original_add, original_identify = Compressor.encode, PackBuilder.add, Worker._identify
    patches: dict[str, tuple[type, str, Any]] = {
        "compressor": (Compressor, "encode", encode),
        "cipher": (PackBuilder, "add", add),
        "memory": (Worker, "_identify", identify),
    }
    repository = new_repository()
    with monkeypatch.context() as patch:
        patch.setattr(*patches[corrupt])
        with pytest.raises(DamagedError):
            run_over(repository, BytesDisk(DATA))
    assert opened(repository).points() == []
    next_run(repository)


def test_the_statistics_wait_for_the_reading_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Stages.put

    def put(self: Stages, where: Queue[Any], item: Any) -> None:
        original(self, where, item)
        if threading.current_thread().name == "stillframe-read":
            time.sleep(0.05)

    monkeypatch.setattr(Stages, "put", put)
    statistics = Statistics()
    back_up(new_repository(), noise(10), statistics=statistics)
    assert statistics.read_bytes == 10


def test_a_slow_storage_slows_the_reading_down() -> None:
    """What was read and is not stored yet is bounded, however large the disk."""
    storage = MemoryStorage()
    repository = new_repository(storage, pack_bytes=2 * BLOCK_BYTES)
    gate = threading.Semaphore(0)
    read: list[int] = []
    disk = BytesDisk(noise(2000 * BLOCK_BYTES), hook=read.append)

    def wait(operation: Any) -> None:
        if operation.kind == "put" and operation.name.startswith("data/"):
            gate.acquire()

    storage.plan = wait
    thread = threading.Thread(target=run_over, args=(repository, disk))
    thread.start()
    settled = -1
    while settled != len(read) or not read:
        settled = len(read)
        time.sleep(0.3)
    assert sum(length for _, length in disk.reads) < 90 << 20
    storage.plan = lambda _: None
    for _ in range(5000):
        gate.release()
    thread.join()
    assert len(opened(repository).points()) == 1


def test_the_same_data_by_several_threads_at_once_is_right_and_bounded() -> None:
    storage = MemoryStorage()
    repository = new_repository(storage)
    others = [opened(repository) for _ in range(3)]
    threads = [
        threading.Thread(target=back_up, args=(other, DATA), kwargs={"machine": f"vm{number}"})
        for number, other in enumerate(others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = opened(repository)
    assert sorted(point.machine for point in fresh.points()) == ["vm0", "vm1", "vm2"]
    for point in fresh.points():
        assert contents_of(fresh, point) == {"disk": DATA}
    size = sum(len(storage.objects[name]) for name in pack_names(storage.objects, "data/"))
    assert size < 3.05 * len(DATA)


def test_a_damaged_tree_of_the_base_fails_the_run_with_its_name() -> None:
    storage = MemoryStorage()
    repository = new_repository(storage)
    point = back_up(repository, DATA)
    for name in pack_names(storage.objects, "meta/"):
        del storage.objects[name]
    with pytest.raises(DamagedError):
        back_up(opened(repository), {"disk": DATA}, parent=point, changed={"disk": [Extent(0, 5)]})
    assert len(opened(repository).points()) == 1
