"""A storage in memory: deterministic, quick to copy, and able to fail in every way that a real one can."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from typing import Literal

from stillframe.repository.storage.base import ObjectCutOffError, ObjectMissingError, StorageError, check_name

Kind = Literal["put", "get", "get_range", "size", "list", "delete"]


class Fault(Enum):
    """How an operation goes wrong. All but the listings' raise StorageError, too."""

    FAILED = "nothing happened"
    HAPPENED = "put, delete: it happened, but the answer is an error"
    HALF = "put: the first half is there under the name (what a storage that is not atomic does)"
    SHORT = "list: every second name is left out"
    EMPTY = "list: no name at all"
    STALE = "list: the names as they were at `remember_names`"
    BROKEN_OFF = "list: half of the names, then an error"


@dataclass(frozen=True, slots=True)
class Operation:
    """What is about to happen; ``number`` counts all operations of the storage from 0."""

    number: int
    kind: Kind
    name: str


Plan = Callable[[Operation], Fault | None]


def no_fault(_: Operation) -> Fault | None:
    """Everything works."""
    return None


def fault_at(number: int, fault: Fault) -> Plan:
    """One operation goes wrong."""
    return lambda operation: fault if operation.number == number else None


def every(kind: Kind, fault: Fault, prefix: str = "") -> Plan:
    """All operations of a kind go wrong, on names that begin so."""
    return lambda operation: (
        fault if (operation.kind, True) == (kind, operation.name.startswith(prefix)) else None
    )


class MemoryStorage:
    """Keeps objects in ``objects``, which tests may read and change; asks ``plan`` before each operation.

    ``operations`` are those so far, in order.
    """

    def __init__(self, objects: Mapping[str, bytes] | None = None, *, location: str = "memory") -> None:
        self.objects: dict[str, bytes] = dict(objects or {})
        self.operations: list[Operation] = []
        self.plan: Plan = no_fault
        self._location = location
        self._remembered = sorted(self.objects)
        self._lock = Lock()

    @property
    def location(self) -> str:
        return self._location

    def copy(self) -> MemoryStorage:
        """Another storage with the same objects and no plan."""
        return MemoryStorage(self.objects, location=self._location)

    def remember_names(self) -> None:
        """What a stale listing shows from now on."""
        self._remembered = sorted(self.objects)

    def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        fault = self._begin("put", name)
        content = bytes(data)
        if fault is Fault.HALF:
            content = content[: len(content) // 2]
        with self._lock:
            is_new = name not in self.objects
            if is_new:
                self.objects[name] = content
        self._fail_if(fault, "put", name)
        return is_new

    def get(self, name: str) -> bytes:
        self._begin("get", name)
        return self._object(name)

    def get_range(self, name: str, offset_bytes: int, length_bytes: int) -> bytes:
        self._begin("get_range", name)
        data = self._object(name)[offset_bytes : offset_bytes + length_bytes]
        if len(data) != length_bytes:
            raise ObjectCutOffError(f"{self._location}: {name} ends at byte {offset_bytes + len(data)}")
        return data

    def size(self, name: str) -> int:
        self._begin("size", name)
        return len(self._object(name))

    def list(self, prefix: str) -> Iterator[str]:
        if prefix:
            check_name(prefix.removesuffix("/"))
        fault = self._begin("list", prefix)
        names = self._remembered if fault is Fault.STALE else sorted(self.objects)
        yield from _shown([name for name in names if name.startswith(prefix)], fault)
        self._fail_if(fault if fault is Fault.BROKEN_OFF else None, "list", prefix)

    def delete(self, name: str) -> None:
        fault = self._begin("delete", name)
        self.objects.pop(name, None)
        self._fail_if(fault, "delete", name)

    def close(self) -> None:
        """Nothing is open."""

    def _begin(self, kind: Kind, name: str) -> Fault | None:
        if kind != "list":
            check_name(name)
        with self._lock:
            operation = Operation(len(self.operations), kind, name)
            self.operations.append(operation)
        fault = self.plan(operation)
        self._fail_if(fault if fault is Fault.FAILED else None, kind, name)
        return fault

    def _fail_if(self, fault: Fault | None, kind: Kind, name: str) -> None:
        if fault is not None:
            raise StorageError(f"{self._location}: {kind} {name} was made to fail ({fault.value})")

    def _object(self, name: str) -> bytes:
        try:
            return self.objects[name]
        except KeyError:
            raise ObjectMissingError(f"{self._location}: {name} is not there") from None


def _shown(names: list[str], fault: Fault | None) -> list[str]:
    if fault is Fault.EMPTY:
        return []
    if fault is Fault.SHORT:
        return names[::2]
    if fault is Fault.BROKEN_OFF:
        return names[: len(names) // 2]
    return names
