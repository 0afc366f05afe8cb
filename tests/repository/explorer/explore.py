"""Every interleaving of several actors' storage operations, judged after every step.

A *state* is where each actor stands (a moment, see ``moments``) and what is in storage. Different schedules
lead to the same state when they differ only in the order of operations that do not touch each other; each
state is expanded once. So the search is exhaustive over schedules while it walks over states. That an actor
is paused for ever, or dies, is a state in which the others go on: it needs no case of its own.

One reduction: a read whose answer cannot change any more, whatever the others do, is done at once. That holds
for log entries that are there (they are never deleted: the oracle sees to it) and for any object once nobody
is left who deletes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from stillframe.repository.errors import DamagedError
from stillframe.repository.operations import Delete, Get, GetRange, ListNames, Operation, Put, Size
from tests.repository.explorer.actors import config, content, point_id, run
from tests.repository.explorer.closing import Closing
from tests.repository.explorer.determinism import deterministic
from tests.repository.explorer.moments import Actor, Answer, Moment
from tests.repository.explorer.oracle import Content, Oracle, TeachingStorage, View, WrongError
from tests.repository.explorer.places import Place, Places, faults_of
from tests.repository.make import BUNDLE
from tests.repository.storage.memory import Fault

Patch = tuple[object, str, Any]
"""A module or class, a name in it, and what takes its place."""


@dataclass(frozen=True)
class Scenario:
    """What was there, who works at once, and what their points hold (letters, see ``actors.block``)."""

    name: str
    before: Sequence[Actor]
    """They work one after the other, before the exploration."""

    actors: Sequence[Actor]
    contents: Mapping[str, str]
    settings: Sequence[Patch] = ()
    converges: bool = True
    """Two collections afterwards leave one copy of what lives and nothing else."""

    from_the_start: bool = False
    """Nobody has a head start: longer, and as exhaustive as it gets."""

    readers: Mapping[str, str] = field(default_factory=dict)
    """Name of a reading actor: the point that it reads."""


@dataclass(frozen=True, slots=True)
class State:
    moments: tuple[Moment, ...]
    place: Place
    faults: int
    """So many may still happen."""


@dataclass(frozen=True, slots=True)
class Step:
    """One actor performs its operation."""

    actor: str
    operation: Operation
    fault: Fault | None

    def __str__(self) -> str:
        fault = f"  !! {self.fault.name}" if self.fault else ""
        return f"{self.actor}: {self.operation}{fault}"


@dataclass
class Report:
    """How an exploration went."""

    name: str
    states: int = 0
    schedules: int = 0
    closings: int = 0
    histories: int = 0
    wrong: str = ""
    trace: Sequence[Step] = ()

    def __str__(self) -> str:
        counts = (
            f"{self.name}: {self.schedules:.3g} schedules over {self.states} states, "
            f"{self.histories} histories of actors, {self.closings} endings"
        )
        return "\n".join([counts, self.wrong, *map(str, self.trace)]) if self.wrong else counts


def explore(
    scenario: Scenario, *, faults: int = 0, planted: Sequence[Patch] = (), every_ending: bool = False
) -> Report:
    """Walk through all states; stop at the first that is wrong.

    ``every_ending`` looks at the end of each state, all actors paused for ever where they are; otherwise of
    those in which at most one actor is not done.
    """
    with deterministic(), contextlib.ExitStack() as stack:
        for target, name, value in scenario.settings:
            stack.enter_context(patch.object(target, name, value))
        contents = {point_id(name): content(letters) for name, letters in scenario.contents.items()}
        oracle = Oracle(contents)
        storage = TeachingStorage({"config": config().to_bytes(BUNDLE)}, oracle)
        for actor in scenario.before:
            run(actor, storage)
        for target, name, value in planted:
            stack.enter_context(patch.object(target, name, value))
        return _Exploration(scenario, storage.objects, oracle, contents, faults, every_ending).run()


class _Exploration:
    def __init__(
        self,
        scenario: Scenario,
        objects: Mapping[str, bytes],
        oracle: Oracle,
        contents: dict[str, Content],
        faults: int,
        every_ending: bool,
    ) -> None:
        self._scenario = scenario
        self._contents: Mapping[str, Content] = contents
        self._oracle = oracle
        self._places = Places(objects)
        self._closing = Closing(self._oracle, contents, converges=scenario.converges)
        self._every_ending = every_ending
        self._faults = faults
        self._came_from: dict[State, tuple[State, Step] | None] = {}
        self._followers: dict[State, list[State]] = {}
        self._lives: dict[tuple[str, int], Moment] = {}
        self._report = Report(scenario.name)

    def run(self) -> Report:
        first = State(
            tuple(self._begun(actor) for actor in self._scenario.actors),
            self._places.of(self._places.first),
            self._faults,
        )
        self._oracle.require_all(first.place, self._oracle.view(first.place))
        self._came_from[first] = None
        pending = [first]
        while pending:
            state = pending.pop()
            try:
                pending.extend(self._expand(state))
            except WrongError as wrong:
                self._report.wrong = str(wrong)
                self._report.trace = self._trace(state)
                break
        self._count()
        return self._report

    def _begun(self, actor: Actor) -> Moment:
        """Where an actor stands when the exploration begins."""
        moment = Moment.first(actor)
        if actor.head_start and not self._scenario.from_the_start:
            first = self._places.of(self._places.first)
            while isinstance(moment.operation, Get | GetRange | Size | ListNames):
                moment = moment.after(self._places.after(first, moment.operation)[1])
        return moment

    def _expand(self, state: State) -> Iterator[State]:
        """The states behind a state that were not seen before."""
        followers = self._followers[state] = []
        busy = [number for number, moment in enumerate(state.moments) if not moment.is_done]
        if self._every_ending or len(busy) <= 1:
            self._closing.judge(state.place, may_be_stuck=state.faults < self._faults)
        for number in self._chosen(state, busy):
            for after, step in self._steps(state, number):
                if after not in self._came_from:
                    self._came_from[after] = state, step
                    self._judge(state, number, step, after)
                    yield after
                followers.append(after)

    def _chosen(self, state: State, busy: list[int]) -> list[int]:
        for number in busy:
            operation = state.moments[number].operation
            others = [state.moments[other].actor for other in busy if other != number]
            if _is_settled(operation, state.place, any(actor.may_delete for actor in others)):
                return [number]
        return busy

    def _steps(self, state: State, number: int) -> Iterator[tuple[State, Step]]:
        moment = state.moments[number]
        assert moment.operation is not None
        usual: tuple[Place, Answer] | None = None
        for fault in (None, *(faults_of(moment.operation) if state.faults else ())):
            place, answer = self._places.after(state.place, moment.operation, fault)
            if usual is None:
                usual = place, answer
            elif place is usual[0] and answer.key == usual[1].key:
                continue
            after = self._reborn(moment.after(answer))
            moments = (*state.moments[:number], after, *state.moments[number + 1 :])
            step = Step(moment.actor.name, moment.operation, fault)
            yield State(moments, place, state.faults - (fault is not None)), step

    def _reborn(self, moment: Moment) -> Moment:
        """Whoever is done and goes on as another actor stands at the beginning of that one's life."""
        if not isinstance(moment.result, Actor):
            return moment
        actor = moment.result
        if (actor.name, actor.life) not in self._lives:
            self._lives[actor.name, actor.life] = Moment.first(actor)
        return self._lives[actor.name, actor.life]

    # Judging

    def _judge(self, before: State, number: int, step: Step, after: State) -> None:
        operation, actor = step.operation, before.moments[number].actor
        try:
            if isinstance(operation, Put | Delete):
                view = self._oracle.view(before.place)
                self._oracle.require_allowed(operation, view, may_delete=actor.may_delete)
                if isinstance(operation, Put):
                    self._oracle.learn({operation.name: bytes(operation.data)})
                self._oracle.require_all(after.place, self._oracle.view(after.place))
            if after.moments[number].is_done:
                self._judge_end(after, after.moments[number])
        except WrongError as wrong:
            raise WrongError(f"after the next step ({step}): {wrong}") from wrong

    def _judge_end(self, state: State, moment: Moment) -> None:
        view = self._oracle.view(state.place)
        if moment.failure is not None:
            self._judge_failure(state, moment, view)
        elif moment.actor.name in self._scenario.readers:
            self._judge_reading(moment, view)
        elif isinstance(moment.result, str) and moment.result not in view.ever:
            raise WrongError(f"{moment.actor.name} was promised a point that is not in the log")

    def _judge_failure(self, state: State, moment: Moment, view: View) -> None:
        """Who fails had a fault, or read what was forgotten meanwhile. Damage is only half an entry."""
        if point_id(self._scenario.readers.get(moment.actor.name, "")) in view.forgotten:
            return
        damaged = isinstance(moment.failure, DamagedError)
        if state.faults == self._faults or (damaged and not view.stuck):
            raise WrongError(f"{moment.actor.name} failed without a reason: {moment.failure}")

    def _judge_reading(self, moment: Moment, view: View) -> None:
        wanted = point_id(self._scenario.readers[moment.actor.name])
        if moment.result is None and wanted not in view.forgotten:
            raise WrongError(f"{moment.actor.name} did not find a point that lives")
        if moment.result is not None and moment.result != self._contents[wanted]:
            raise WrongError(f"{moment.actor.name} read other bytes")

    # Reporting

    def _trace(self, state: State) -> list[Step]:
        steps = []
        came = self._came_from[state]
        while came is not None:
            state, step = came
            steps.append(step)
            came = self._came_from[state]
        return steps[::-1]

    def _count(self) -> None:
        """Schedules are paths through the states; every step makes a history longer: there is no circle."""
        paths: dict[State, int] = {}
        for state in sorted(self._followers, key=_progress, reverse=True):
            paths[state] = sum(paths.get(after, 1) for after in self._followers[state]) or 1
            self._report.schedules = paths[state]
        self._report.states = len(self._came_from)
        self._report.closings = self._closing.judged
        self._report.histories = len({moment for state in self._came_from for moment in state.moments})


def _progress(state: State) -> int:
    return sum(moment.depth for moment in state.moments)


def _is_settled(operation: Operation | None, place: Place, others_delete: bool) -> bool:
    if not isinstance(operation, Get | GetRange | Size) or operation.name not in place.objects:
        return False
    return not others_delete or operation.name.startswith(("log/", "config"))
