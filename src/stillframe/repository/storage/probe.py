"""Whether a storage can do what the repository format asks (section 1): tried out rather than believed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from stillframe.errors import UnsupportedError
from stillframe.repository.storage.base import ObjectMissingError, Storage, StorageError

FOLDER = "probe/"
_RACERS = 4


def probe(storage: Storage) -> None:
    """Try every operation on objects below ``probe/``, which are removed again.

    Raises:
        UnsupportedError: an operation does not do what it must; says which, and what it did.
        StorageError: no answer.
    """
    with _scratch_name(storage) as name:
        _probe_reading(storage, name)
        _probe_refusal(storage, name)
        _probe_deletion(storage, name)
    with _scratch_name(storage) as name:
        _probe_race(storage, name)


@contextmanager
def _scratch_name(storage: Storage) -> Iterator[str]:
    name = FOLDER + os.urandom(16).hex()
    try:
        yield name
    except (StorageError, UnsupportedError):
        with suppress(StorageError):  # the first failure is the one to tell
            storage.delete(name)
        raise
    storage.delete(name)


def _probe_reading(storage: Storage, name: str) -> None:
    data = os.urandom(1000)
    _demand(storage, storage.put_if_absent(name, data), "put refuses a name that is free")
    _demand(storage, storage.get(name) == data, "get returns other bytes than were put")
    _demand(storage, storage.size(name) == len(data), "size is wrong")
    _demand(
        storage, storage.get_range(name, 100, 300) == data[100:400], "a range has other bytes than were put"
    )
    _demand(storage, name in storage.list(FOLDER), "list does not show an object that was just put")


def _probe_refusal(storage: Storage, name: str) -> None:
    before = storage.get(name)
    refused = not storage.put_if_absent(name, b"another")
    _demand(storage, refused and storage.get(name) == before, "put replaces an object that is there")


def _probe_deletion(storage: Storage, name: str) -> None:
    storage.delete(name)
    _demand(storage, _is_missing(storage, name), "an object that was deleted is still there")
    _demand(storage, name not in storage.list(FOLDER), "list shows an object that was deleted")


def _probe_race(storage: Storage, name: str) -> None:
    """Of several that put one name at once exactly one may win: to ask first, then write, is not enough."""
    contents = [os.urandom(100) for _ in range(_RACERS)]
    with ThreadPoolExecutor(_RACERS) as pool:
        won = list(pool.map(lambda content: storage.put_if_absent(name, content), contents))
    _demand(
        storage, won.count(True) == 1, f"of {_RACERS} puts of one name at once, {won.count(True)} succeed"
    )
    _demand(
        storage,
        storage.get(name) == contents[won.index(True)],
        "a put that succeeded was replaced by another",
    )


def _is_missing(storage: Storage, name: str) -> bool:
    try:
        storage.get(name)
    except ObjectMissingError:
        return True
    return False


def _demand(storage: Storage, holds: bool, otherwise: str) -> None:
    if not holds:
        raise UnsupportedError(
            f"{storage.location}: {otherwise}",
            hint="A repository would not be safe on this storage; choose another.",
        )
