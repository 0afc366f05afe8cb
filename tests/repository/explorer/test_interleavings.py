"""No interleaving loses a block, breaks the order of the laws, or leaves what cannot be cleaned up.

Run with ``-s`` to see how much was explored.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.repository.explorer import scenarios
from tests.repository.explorer.explore import Report, Scenario, explore


def _name(scenario: Scenario) -> str:
    return scenario.name


def _require_right(report: Report) -> None:
    print(f"\n{report}")
    assert not report.wrong, str(report)
    assert report.schedules > 1


@pytest.mark.parametrize("scenario", scenarios.SMALL, ids=_name)
def test_every_interleaving(scenario: Scenario) -> None:
    _require_right(explore(scenario))


@pytest.mark.parametrize("scenario", scenarios.FAULTY, ids=_name)
def test_every_interleaving_with_one_fault_of_every_kind_at_every_place(scenario: Scenario) -> None:
    _require_right(explore(scenario, faults=1))


def test_a_commit_can_be_tried_again_whatever_became_of_it() -> None:
    _require_right(explore(scenarios.STUBBORN, faults=2))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", scenarios.LARGE, ids=_name)
def test_every_interleaving_of_large_scenarios(scenario: Scenario) -> None:
    _require_right(explore(scenario))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", scenarios.SMALL, ids=_name)
def test_every_interleaving_with_one_fault_and_every_pause(scenario: Scenario) -> None:
    _require_right(explore(scenario, faults=1, every_ending=True))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", scenarios.FAULTY, ids=_name)
def test_every_interleaving_with_two_faults(scenario: Scenario) -> None:
    _require_right(explore(scenario, faults=2))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("scenario", scenarios.FAULTY, ids=_name)
def test_every_interleaving_from_the_first_operation_on(scenario: Scenario) -> None:
    _require_right(explore(replace(scenario, from_the_start=True)))
