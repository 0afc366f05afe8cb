"""Actors as trees of what they did: each moment is reached by the storage's answers so far.

An actor is a generator of production code. It cannot be copied, but it is a function of the answers that it
got; so its behaviour is a tree, which is grown by running the generator and kept. However many interleavings
lead an actor through the same answers, the code runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from stillframe.errors import StillframeError
from stillframe.repository.operations import Operation, Put, Steps
from stillframe.repository.storage.base import StorageError

MAX_OPERATIONS = 10_000
"""More than any actor performs in one life."""


@dataclass(frozen=True)
class Actor:
    """Somebody who works on the repository. ``start`` begins the work anew, deterministically.

    Its result may be another actor, as which it goes on: it has forgotten all that was, so the explorer may
    forget it as well.
    """

    name: str
    start: Callable[[], Steps[Any]]
    may_delete: bool = False
    """Only a collector deletes; whoever else does is caught."""

    life: int = 0
    """How many actors it was before."""

    head_start: bool = True
    """Has done what it reads before its first change when the exploration begins."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the storage said: a value, or an error to be raised."""

    value: Any = None
    error: StorageError | None = None

    @property
    def key(self) -> Hashable:
        if self.error is not None:
            return type(self.error), str(self.error)
        return tuple(self.value) if isinstance(self.value, list) else self.value


class NondeterminismError(AssertionError):
    """An actor did something else on the same answers: exploring proves nothing then."""


class Moment:
    """An actor in the middle of its work: about to do ``operation``, or done."""

    def __init__(self, actor: Actor, before: Moment | None = None, answer: Answer | None = None) -> None:
        self.actor = actor
        self.depth: int = before.depth + 1 if before else actor.life * MAX_OPERATIONS
        self.operation: Operation | None = None
        self.result: Any = None
        self.failure: StillframeError | None = None
        self._before = before
        self._answer = answer
        self._after: dict[Hashable, Moment] = {}
        self._running: Steps[Any] | None = None

    @classmethod
    def first(cls, actor: Actor) -> Moment:
        moment = cls(actor)
        moment._arrive(actor.start(), None)
        return moment

    @property
    def is_done(self) -> bool:
        return self.operation is None

    def after(self, answer: Answer) -> Moment:
        """The moment that follows when the storage answers so."""
        found = self._after.get(answer.key)
        if found is None:
            found = self._after[answer.key] = Moment(self.actor, self, answer)
            found._arrive(self._generator(), answer)
        return found

    def _arrive(self, running: Steps[Any], answer: Answer | None) -> None:
        try:
            self.operation = _settled(_send(running, answer))
            self._running = running
        except StopIteration as stop:
            self.result = stop.value
        except StillframeError as failure:
            self.failure = failure

    def _generator(self) -> Steps[Any]:
        """The generator as it stands at this moment; run again from the start if it has gone on since."""
        running, self._running = self._running, None
        return running if running is not None else self._run_again()

    def _run_again(self) -> Steps[Any]:
        path: list[Moment] = []
        moment: Moment | None = self
        while moment is not None:
            path.append(moment)
            moment = moment._before
        running = self.actor.start()
        for moment in reversed(path):
            operation = _settled(_send(running, moment._answer))
            if operation != moment.operation:
                raise NondeterminismError(f"{self.actor.name}: {operation} instead of {moment.operation}")
        return running


def _send(running: Steps[Any], answer: Answer | None) -> Operation:
    if answer is None:
        return next(running)
    if answer.error is not None:
        return running.throw(type(answer.error)(str(answer.error)))
    return running.send(answer.value)


def _settled(operation: Operation) -> Operation:
    """With the bytes as they are now: a pack's buffer may be used again."""
    return Put(operation.name, bytes(operation.data)) if isinstance(operation, Put) else operation
