"""The explorer finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.repository.explorer import planted, scenarios
from tests.repository.explorer.explore import Patch, Scenario, explore

BUGS: list[tuple[Scenario, Patch]] = [
    (scenarios.BLOCK_REVIVED, planted.COLLECTOR_DOES_NOT_MARK_AGAIN),
    (scenarios.SLEEPING_COLLECTOR, planted.COLLECTOR_FORGETS_ITS_COPIES),
    (scenarios.TWO_COLLECTORS, planted.COLLECTOR_FORGETS_ITS_BASIS),
    (scenarios.BLOCK_REVIVED, planted.COLLECTOR_DELETES_FIRST),
    (scenarios.BLOCK_REVIVED, planted.WRITER_DOES_NOT_CHECK),
    (scenarios.BASE_FORGOTTEN, planted.WRITER_DOES_NOT_CHECK),
    (scenarios.SLOW_WRITER, planted.WRITER_DOES_NOT_CHECK),
    (scenarios.SAME_DISK, planted.WRITER_PUTS_SEGMENT_LAST),
    (scenarios.READER, planted.READER_LOOKS_ONCE),
]


def _name(value: Scenario | Patch) -> str:
    return value.name if isinstance(value, Scenario) else value[1]


@pytest.mark.parametrize(("scenario", "bug"), BUGS, ids=_name)
def test_a_planted_bug_is_found(scenario: Scenario, bug: Patch) -> None:
    report = explore(scenario, planted=[bug])
    assert report.wrong
    assert report.trace, "with the steps that lead there"
    print(report)


def test_trusting_a_listing_needs_one_fault_to_show() -> None:
    bug = planted.COLLECTOR_BELIEVES_LISTINGS
    assert not explore(scenarios.LISTED, planted=[bug]).wrong
    report = explore(scenarios.LISTED, planted=[bug], faults=1)
    assert "leaves point" in report.wrong
    print(report)


def test_suspects_are_courtesy_and_the_writers_check_is_safety() -> None:
    hasty = planted.COLLECTOR_HAS_NO_SUSPECTS
    assert not explore(scenarios.IN_FLIGHT, planted=[hasty]).wrong
    report = explore(scenarios.IN_FLIGHT, planted=[hasty, planted.WRITER_DOES_NOT_CHECK])
    assert report.wrong
    print(report)
