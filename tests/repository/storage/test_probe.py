"""The probe passes what works, and names what does not: storages broken on purpose, one way each."""

from collections.abc import Iterator
from pathlib import Path
from threading import Barrier

import pytest

from stillframe.errors import UnsupportedError
from stillframe.repository.storage.base import StorageError
from stillframe.repository.storage.open import open_storage
from stillframe.repository.storage.probe import probe
from tests.repository.storage.memory import Fault, MemoryStorage, every


class Replaces(MemoryStorage):
    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        self.objects.pop(name, None)
        return super().put_if_absent(name, data)


class RefusesAlways(MemoryStorage):
    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        return not super().put_if_absent(name, data)


class SaysNoButReplaces(MemoryStorage):
    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        is_new = name not in self.objects
        self.objects[name] = bytes(data)
        return is_new


class AsksThenWrites(MemoryStorage):
    """Refuses in turn, but not at once."""

    def __init__(self) -> None:
        super().__init__()
        self.race = Barrier(4)
        self.names: set[str] = set()

    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        if name in self.objects:
            return False
        self.names.add(name)
        if len(self.names) > 1:
            self.race.wait(timeout=30)
        self.objects[name] = bytes(data)
        return True


class CutsRanges(MemoryStorage):
    def get_range(self, name: str, offset_bytes: int, length_bytes: int) -> bytes:
        return self.get(name)[:length_bytes]


class CountsWrongly(MemoryStorage):
    def size(self, name: str) -> int:
        return super().size(name) + 1


class GarblesReads(MemoryStorage):
    def get(self, name: str) -> bytes:
        return super().get(name)[::-1]


class ListsNothing(MemoryStorage):
    def list(self, prefix: str) -> Iterator[str]:
        yield from ()


class DeletesNothing(MemoryStorage):
    def delete(self, name: str) -> None:
        pass


class ListsTheDead(MemoryStorage):
    def list(self, prefix: str) -> Iterator[str]:
        yield from (operation.name for operation in self.operations if operation.kind == "put")


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Replaces, "put replaces"),
        (RefusesAlways, "put refuses"),
        (SaysNoButReplaces, "put replaces"),
        (AsksThenWrites, "4 succeed"),
        (CutsRanges, "range"),
        (CountsWrongly, "size"),
        (GarblesReads, "get returns"),
        (ListsNothing, "list does not show"),
        (DeletesNothing, "still there"),
        (ListsTheDead, "list shows"),
    ],
)
def test_a_storage_that_breaks_one_rule_is_refused(broken: type[MemoryStorage], complaint: str) -> None:
    with pytest.raises(UnsupportedError, match=complaint):
        probe(broken())


def test_what_works_passes_and_nothing_stays(tmp_path: Path) -> None:
    for storage in (MemoryStorage(), open_storage(str(tmp_path / "repository"), create=True)):
        probe(storage)
        assert list(storage.list("")) == []
        storage.close()


@pytest.mark.parametrize("kind", ["put", "get", "get_range", "size", "list", "delete"])
def test_no_answer_is_not_a_verdict(kind: str) -> None:
    storage = MemoryStorage()
    storage.plan = lambda operation: Fault.FAILED if operation.kind == kind else None
    with pytest.raises(StorageError):
        probe(storage)


def test_what_was_put_is_removed_after_a_failure() -> None:
    storage = MemoryStorage()
    storage.plan = every("get", Fault.FAILED)
    with pytest.raises(StorageError):
        probe(storage)
    assert storage.objects == {}
