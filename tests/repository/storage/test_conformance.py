"""What every storage owes (repository format, section 1), asked of each of them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from stillframe.repository.storage.base import ObjectCutOffError, ObjectMissingError, Storage, StorageError
from stillframe.repository.storage.local import LocalStorage
from stillframe.repository.storage.open import open_storage
from tests.repository.crash.memory_files import MemoryFiles
from tests.repository.storage.memory import MemoryStorage

NAME = "data/ab/" + "ab" * 32
Opener = Callable[[], Storage]


@pytest.fixture(params=["local", "local on a recorded file system", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    openers: dict[str, Opener] = {
        "local": lambda: open_storage(str(tmp_path / "repository"), create=True),
        "local on a recorded file system": lambda: LocalStorage(MemoryFiles(), "recorded", create=True),
        "memory": MemoryStorage,
    }
    opened = openers[request.param]()
    yield opened
    opened.close()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_was_put_is_got(storage: Storage, kind: Callable[[bytes], bytes]) -> None:
    assert storage.put_if_absent(NAME, kind(b"hello"))
    assert storage.get(NAME) == b"hello"
    assert storage.size(NAME) == 5
    assert list(storage.list("")) == [NAME]


def test_an_empty_object_is_an_object(storage: Storage) -> None:
    assert storage.put_if_absent("config", b"")
    assert storage.get("config") == b""
    assert storage.get_range("config", 0, 0) == b""


def test_a_view_into_a_larger_buffer_of_words_is_stored_as_bytes(storage: Storage) -> None:
    words = memoryview(bytearray(range(32))).cast("I")[2:4]
    storage.put_if_absent(NAME, words)
    assert storage.get(NAME) == bytes(range(8, 16))


def test_a_taken_name_is_refused_and_keeps_its_bytes(storage: Storage) -> None:
    assert storage.put_if_absent(NAME, b"first")
    assert not storage.put_if_absent(NAME, b"second, and longer")
    assert storage.get(NAME) == b"first"


@pytest.mark.parametrize("ask", ["get", "size", "get_range"])
def test_missing_is_an_answer_of_its_own(storage: Storage, ask: str) -> None:
    arguments = (NAME, 0, 1) if ask == "get_range" else (NAME,)
    with pytest.raises(ObjectMissingError, match=NAME):
        getattr(storage, ask)(*arguments)


@pytest.mark.parametrize(("offset_bytes", "length_bytes"), [(0, 0), (0, 10), (3, 4), (9, 1), (10, 0)])
def test_ranges_are_exact(storage: Storage, offset_bytes: int, length_bytes: int) -> None:
    storage.put_if_absent(NAME, b"0123456789")
    expected = b"0123456789"[offset_bytes : offset_bytes + length_bytes]
    assert storage.get_range(NAME, offset_bytes, length_bytes) == expected


@pytest.mark.parametrize(("offset_bytes", "length_bytes"), [(0, 11), (9, 2), (10, 1), (100, 1)])
def test_a_range_past_the_end_is_an_error_and_not_missing(
    storage: Storage, offset_bytes: int, length_bytes: int
) -> None:
    storage.put_if_absent(NAME, b"0123456789")
    with pytest.raises(ObjectCutOffError, match="ends at byte 1") as error:
        storage.get_range(NAME, offset_bytes, length_bytes)
    assert not isinstance(error.value, ObjectMissingError)


def test_deleted_is_gone_even_where_it_was_just_read(storage: Storage) -> None:
    storage.put_if_absent(NAME, b"x" * 100)
    assert storage.get_range(NAME, 50, 2) == b"xx"
    storage.delete(NAME)
    with pytest.raises(ObjectMissingError):
        storage.get_range(NAME, 50, 2)
    assert list(storage.list("data/")) == []
    storage.delete(NAME)


def test_a_name_may_be_used_again_after_its_deletion(storage: Storage) -> None:
    storage.put_if_absent(NAME, b"old")
    storage.get_range(NAME, 0, 3)
    storage.delete(NAME)
    assert storage.put_if_absent(NAME, b"new")
    assert storage.get_range(NAME, 0, 3) == b"new"


def test_lists_show_folders_with_all_below(storage: Storage) -> None:
    names = ["config", "data/aa/1", "data/ab/2", "index/3", "log/00000000/4"]
    for name in names:
        storage.put_if_absent(name, b"")
    assert sorted(storage.list("")) == names
    assert sorted(storage.list("data/")) == ["data/aa/1", "data/ab/2"]
    assert sorted(storage.list("data/ab/")) == ["data/ab/2"]
    assert list(storage.list("meta/")) == []


def test_objects_may_be_deleted_while_they_are_listed(storage: Storage) -> None:
    for number in range(100):
        storage.put_if_absent(f"data/{number % 4}/{number}", b"")
    for name in storage.list("data/"):
        storage.delete(name)
    assert list(storage.list("data/")) == []


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", "..", "a/../b", "A", ".tmp/x", "a" * 81, "a/b/c/d/e", "a\n"]
)
def test_what_is_no_name_never_reaches_the_storage(storage: Storage, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: storage.put_if_absent(name, b""),
        lambda: storage.get(name),
        lambda: storage.get_range(name, 0, 0),
        lambda: storage.size(name),
        lambda: storage.delete(name),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not an object name"):
            call()


def race(storage: Storage, name: str, contents: list[bytes]) -> list[bool]:
    with ThreadPoolExecutor(len(contents)) as pool:
        return list(pool.map(lambda content: storage.put_if_absent(name, content), contents))


def test_of_many_threads_that_put_one_name_one_wins(storage: Storage) -> None:
    for number in range(20):
        contents = [bytes([n]) * 1000 for n in range(8)]
        won = race(storage, f"log/{number}", contents)
        assert sum(won) == 1
        assert storage.get(f"log/{number}") == contents[won.index(True)]


class StorageMachine(RuleBasedStateMachine):
    """Any sequence of operations does to a storage what it does to a dictionary."""

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self.storage = storage
        self.model: dict[str, bytes] = {}
        for name in storage.list(""):
            storage.delete(name)

    names = st.sampled_from(["config", "index/1", "index/2", "data/a/1", "data/b/1", "log/0/1"])

    @rule(name=names, data=st.binary(max_size=20))
    def put(self, name: str, data: bytes) -> None:
        assert self.storage.put_if_absent(name, data) == (name not in self.model)
        self.model.setdefault(name, data)

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.storage.delete(name)
        self.model.pop(name, None)

    @rule(name=names, offset=st.integers(0, 20), length=st.integers(0, 20))
    def read(self, name: str, offset: int, length: int) -> None:
        expected = self.model.get(name, b"")[offset : offset + length]
        try:
            assert self.storage.get_range(name, offset, length) == expected
        except ObjectMissingError:
            assert name not in self.model
        except StorageError:
            assert len(expected) < length

    @invariant()
    def agrees(self) -> None:
        assert {name: self.storage.get(name) for name in self.storage.list("")} == self.model


def test_a_storage_is_a_dictionary(storage: Storage) -> None:
    machine = cast("type[RuleBasedStateMachine]", lambda: StorageMachine(storage))
    run_state_machine_as_test(
        machine, settings=settings(max_examples=20, stateful_step_count=20, deadline=None)
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=5000), cut=st.tuples(st.integers(0, 4999), st.integers(0, 4999)))
def test_any_range_of_any_object(storage: Storage, data: bytes, cut: tuple[int, int]) -> None:
    begin, end = sorted(position % (len(data) + 1) for position in cut)
    storage.delete(NAME)
    storage.put_if_absent(NAME, data)
    assert storage.get_range(NAME, begin, end - begin) == data[begin:end]
