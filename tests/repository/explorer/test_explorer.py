"""The explorer itself, where the answer is known."""

from __future__ import annotations

from itertools import count
from math import comb

import pytest

from stillframe.repository.operations import Delete, Get, Put, Steps
from tests.repository.explorer.explore import Scenario, explore
from tests.repository.explorer.moments import Actor, Answer, Moment, NondeterminismError

A_PACK = "data/00/" + 64 * "0"


def putting(name: str, *objects: str) -> Actor:
    def start() -> Steps[None]:
        for wanted in objects:
            yield Put(wanted, name.encode())

    return Actor(name, start, head_start=False)


def scenario(*actors: Actor) -> Scenario:
    return Scenario("known", before=[], actors=actors, contents={}, converges=False)


def test_independent_operations_are_counted_in_every_order_and_visited_once() -> None:
    report = explore(
        scenario(putting("one", "keys/a", "keys/b"), putting("two", "keys/c", "keys/d", "keys/e"))
    )
    assert report.schedules == comb(5, 2)
    assert report.states == 3 * 4


def test_a_race_for_a_name_has_two_ends() -> None:
    report = explore(scenario(putting("one", "keys/a"), putting("two", "keys/a")))
    assert report.schedules == 2
    assert report.states == 5


def test_every_fault_is_a_branch() -> None:
    report = explore(scenario(putting("one", "keys/a")), faults=1)
    assert report.schedules == 4  # it works, nothing happened, it happened, half of it happened


def test_a_read_that_nobody_can_change_is_no_branch() -> None:
    def start() -> Steps[None]:
        yield Get("config")

    reading = Actor("reading", start, head_start=False)
    assert explore(scenario(reading, putting("one", "keys/a", "keys/b"))).schedules == 1


def test_a_delete_is_a_branch_for_who_reads() -> None:
    def deletes() -> Steps[None]:
        yield Delete("keys/a")

    def reads() -> Steps[None]:
        yield Get("config")

    report = explore(scenario(Actor("one", reads, head_start=False), Actor("two", deletes, head_start=False)))
    assert "who deletes keys/a is no collector" in report.wrong
    assert [step.actor for step in report.trace] == ["one"]


def test_an_actor_that_is_no_function_of_its_answers_is_caught() -> None:
    numbers = count()

    def start() -> Steps[None]:
        yield Get("config")
        yield Put(f"keys/{next(numbers)}", b"")
        yield Get("config")

    first = Moment.first(Actor("dice", start))
    second = first.after(Answer(b"one"))
    second.after(Answer(True))
    with pytest.raises(NondeterminismError):
        second.after(Answer(False))
