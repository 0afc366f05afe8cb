"""The failing storage fails as it says."""

import pytest

from stillframe.repository.storage.base import StorageError
from tests.repository.storage.memory import Fault, MemoryStorage, every, fault_at


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage({f"index/{n}": b"abcd" for n in range(6)})


@pytest.mark.parametrize(
    ("fault", "stored"), [(Fault.FAILED, None), (Fault.HALF, b"ab"), (Fault.HAPPENED, b"abcd")]
)
def test_a_put_fails_before_amid_or_after(storage: MemoryStorage, fault: Fault, stored: bytes | None) -> None:
    storage.plan = every("put", fault)
    with pytest.raises(StorageError):
        storage.put_if_absent("config", b"abcd")
    assert storage.objects.get("config") == stored


@pytest.mark.parametrize(("fault", "is_there"), [(Fault.FAILED, True), (Fault.HAPPENED, False)])
def test_a_delete_fails_before_or_after(storage: MemoryStorage, fault: Fault, is_there: bool) -> None:
    storage.plan = every("delete", fault)
    with pytest.raises(StorageError):
        storage.delete("index/1")
    assert ("index/1" in storage.objects) == is_there


def test_listings_lie(storage: MemoryStorage) -> None:
    storage.delete("index/0")
    names = [f"index/{n}" for n in range(1, 6)]
    shown = {None: names, Fault.SHORT: names[::2], Fault.EMPTY: [], Fault.STALE: ["index/0", *names]}
    for fault, expected in shown.items():
        storage.plan = lambda _, fault=fault: fault  # type: ignore[misc]
        assert list(storage.list("index/")) == expected


def test_a_listing_breaks_off(storage: MemoryStorage) -> None:
    storage.plan = every("list", Fault.BROKEN_OFF)
    seen = []
    with pytest.raises(StorageError):  # noqa: PT012 - the names before the error count
        for name in storage.list(""):
            seen.append(name)  # noqa: PERF402
    assert seen == ["index/0", "index/1", "index/2"]


def test_one_operation_fails_and_the_others_do_not(storage: MemoryStorage) -> None:
    storage.plan = fault_at(1, Fault.FAILED)
    assert storage.get("index/0") == b"abcd"
    with pytest.raises(StorageError):
        storage.get("index/0")
    assert storage.get("index/0") == b"abcd"
    assert [operation.kind for operation in storage.operations] == ["get"] * 3
