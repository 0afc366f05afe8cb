"""The storage as a value: what an operation does to it, with and without faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stillframe.repository.operations import (
    Delete,
    Get,
    GetRange,
    ListNames,
    Operation,
    Put,
    Size,
    perform,
)
from stillframe.repository.storage.base import StorageError
from tests.repository.explorer.moments import Answer
from tests.repository.storage.memory import Fault, MemoryStorage

_FAULTS: Mapping[type[Operation], tuple[Fault, ...]] = {
    Put: (Fault.FAILED, Fault.HAPPENED, Fault.HALF),
    Get: (Fault.FAILED,),
    GetRange: (Fault.FAILED,),
    Size: (Fault.FAILED,),
    ListNames: (Fault.FAILED, Fault.SHORT, Fault.EMPTY, Fault.STALE),
    Delete: (Fault.FAILED, Fault.HAPPENED),
}


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """Objects in storage. There is one instance for equal contents, so places compare by identity."""

    objects: Mapping[str, bytes]


@dataclass
class Places:
    """All places that were seen."""

    first: Mapping[str, bytes]
    """What was there in the beginning: a stale listing shows it."""

    _known: dict[frozenset[tuple[str, bytes]], Place] = field(default_factory=dict)

    def of(self, objects: Mapping[str, bytes]) -> Place:
        key = frozenset(objects.items())
        if key not in self._known:
            self._known[key] = Place(dict(objects))
        return self._known[key]

    def after(self, place: Place, operation: Operation, fault: Fault | None = None) -> tuple[Place, Answer]:
        """Perform an operation."""
        storage = MemoryStorage(self.first)
        storage.objects = dict(place.objects)
        if fault is not None:
            storage.plan = lambda _: fault
        try:
            answer = Answer(perform(operation, storage))
        except StorageError as error:
            answer = Answer(error=error)
        if isinstance(operation, Put | Delete):
            return self.of(storage.objects), answer
        return place, answer


def faults_of(operation: Operation) -> tuple[Fault, ...]:
    """How this operation can go wrong."""
    return _FAULTS[type(operation)]
