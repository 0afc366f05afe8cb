"""Production code that calls a storage itself, as a generator: so it can be interleaved like the rest.

The code runs in a thread of its own and stands still at each call until the explorer has answered it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

from stillframe.repository.blobs import BytesLike
from stillframe.repository.operations import (
    Delete,
    Get,
    GetRange,
    ListNames,
    Operation,
    Put,
    Size,
    Steps,
)
from stillframe.repository.storage.base import Storage, StorageError
from tests.repository.explorer.moments import Answer

Result = TypeVar("Result")


class _AbandonedError(Exception):
    """Nobody will answer any more."""


class _Ended:
    """The code has returned, or raised."""

    def __init__(self, result: Any = None, failure: BaseException | None = None) -> None:
        self.result = result
        self.failure = failure


class _AskedStorage:
    """A storage whose every operation is put to the explorer."""

    location = "explored"

    def __init__(self) -> None:
        self.asked: SimpleQueue[Operation | _Ended] = SimpleQueue()
        self.answers: SimpleQueue[Answer | None] = SimpleQueue()

    def _ask(self, operation: Operation) -> Any:
        self.asked.put(operation)
        answer = self.answers.get()
        if answer is None:
            raise _AbandonedError
        if answer.error is not None:
            raise answer.error
        return answer.value

    def put_if_absent(self, name: str, data: BytesLike) -> bool:
        return bool(self._ask(Put(name, data)))

    def get(self, name: str) -> bytes:
        return bytes(self._ask(Get(name)))

    def get_range(self, name: str, offset_bytes: int, length_bytes: int) -> bytes:
        return bytes(self._ask(GetRange(name, offset_bytes, length_bytes)))

    def size(self, name: str) -> int:
        return int(self._ask(Size(name)))

    def list(self, prefix: str) -> Iterator[str]:
        return iter(self._ask(ListNames(prefix)))

    def delete(self, name: str) -> None:
        self._ask(Delete(name))

    def close(self) -> None:
        """Nothing is open."""


def as_steps(work: Callable[[Storage], Result]) -> Steps[Result]:
    """Run ``work`` on a storage whose operations are this generator's."""
    storage = _AskedStorage()

    def run() -> None:
        try:
            storage.asked.put(_Ended(work(storage)))
        except _AbandonedError:
            return
        except BaseException as failure:  # noqa: BLE001 - it is raised in the generator
            storage.asked.put(_Ended(failure=failure))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ended = False
    try:
        while True:
            asked = storage.asked.get()
            if isinstance(asked, _Ended):
                ended = True
                break
            try:
                answer = Answer((yield asked))
            except StorageError as error:
                answer = Answer(error=error)
            storage.answers.put(answer)
    finally:
        if not ended:
            storage.answers.put(None)
        thread.join()
    if asked.failure is not None:
        raise asked.failure
    result: Result = asked.result
    return result
