"""Commit and collection as generators of storage operations: the code that runs is the code that is explored.

A generator yields an operation and is sent its answer, or has a ``StorageError`` thrown in. In production
``drive`` performs them on a storage; in the tests an explorer interleaves several generators in every order.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stillframe.repository.blobs import BytesLike
from stillframe.repository.storage.base import Storage, StorageError


@dataclass(frozen=True, slots=True)
class Put:
    """Answered by bool: False if the name was taken."""

    name: str
    data: BytesLike = field(repr=False)


@dataclass(frozen=True, slots=True)
class Get:
    """Answered by bytes."""

    name: str


@dataclass(frozen=True, slots=True)
class GetRange:
    """Answered by bytes."""

    name: str
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Size:
    """Answered by int."""

    name: str


@dataclass(frozen=True, slots=True)
class ListNames:
    """Answered by a list of names."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Answered by None."""

    name: str


Operation = Put | Get | GetRange | Size | ListNames | Delete

Result = TypeVar("Result")
Steps = Generator[Operation, Any, Result]


def put_own(name: str, data: BytesLike) -> Steps[bool]:
    """Put an object whose bytes no other writer would put; True if it is there and ours.

    A put may fail and yet have happened, or be repeated below us and find its own first try: what lies there
    decides.
    """
    try:
        created: bool = yield Put(name, data)
    except StorageError as failure:
        try:
            there: bytes = yield Get(name)
        except StorageError:
            raise failure from None
        return there == data
    if created:
        return True
    there = yield Get(name)
    return there == data


def put_new(name: str, data: BytesLike) -> Steps[None]:
    """Put an object that is named by its bytes.

    Raises:
        StorageError: it may not have happened, or other bytes lie under the name.
    """
    created: bool = yield Put(name, data)
    if not created:  # a storage that repeats a put below us finds its own first try
        there: bytes = yield Get(name)
        if there != data:
            raise StorageError(
                f"{name}: other bytes lie under this name",
                hint="Half a write may have stayed there. Run: stillframe repo check --no-key",
            )


def perform(operation: Operation, storage: Storage) -> Any:
    """Carry out one operation."""
    match operation:
        case Put(name, data):
            return storage.put_if_absent(name, data)
        case Get(name):
            return storage.get(name)
        case GetRange(name, offset_bytes, length_bytes):
            return storage.get_range(name, offset_bytes, length_bytes)
        case Size(name):
            return storage.size(name)
        case ListNames(prefix):
            return list(storage.list(prefix))
        case Delete(name):
            return storage.delete(name)


def drive(steps: Steps[Result], storage: Storage) -> Result:
    """Run a generator to its end on a storage."""
    try:
        operation = next(steps)
        while True:
            try:
                answer = perform(operation, storage)
            except StorageError as error:
                operation = steps.throw(error)
            else:
                operation = steps.send(answer)
    except StopIteration as stop:
        result: Result = stop.value
        return result
