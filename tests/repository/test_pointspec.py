"""Naming a recovery point: each form, each mistake."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import UsageError
from stillframe.repository.points import RecoveryPoint
from stillframe.repository.pointspec import find_point
from tests.repository.point_maker import make_point

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, number: int, machine: str = "web") -> RecoveryPoint:
    return make_point(
        datetime.fromisoformat(text), number=number, machine=machine, point_id=f"{number:04x}" * 4
    )


POINTS = [
    at("2026-11-23T12:00:00.000+00:00", 1),
    at("2026-11-23T13:00:00.500+00:00", 2),
    at("2026-11-23T14:00:30.250+00:00", 3),
    at("2026-11-23T14:30:00.000+00:00", 4, "web@dmz: 1"),
]


def number_of(text: str, zone: tzinfo = UTC) -> int:
    return find_point(POINTS, text, zone).number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("web@latest", 3),
        ("web@dmz: 1@latest", 4),
        ("web@2026-11-23T14:30", 3),
        ("web@2026-11-23T14:00", 2),
        ("web@2026-11-23T13:00", 2),  # the second is included: lists show no more than seconds
        ("web@2026-11-23T13:00:00", 2),
        ("web@2026-11-23T13:00:00.400", 1),
        ("web@2026-11-23T13:00:00.500", 2),
        ("web@2026-11-23T14:00:29", 2),
        ("web@2026-11-23T14:00:30", 3),
        ("web@2026-11-23 14:30", 3),
        ("web@2026-11-23T14:30:00+01:00", 2),
        ("web@2026-11-23T14:30Z", 3),
        ("web@20261123T1430", 3),
        ("0002", 2),
        ("0003000300030003", 3),
    ],
)
def test_a_point_is_found(text: str, number: int) -> None:
    assert number_of(text) == number


def test_a_time_without_a_zone_is_local() -> None:
    assert number_of("web@2026-11-23T14:30", BERLIN) == 2
    assert number_of("web@2026-11-23T14:30Z", BERLIN) == 3


def test_a_repeated_hour_means_its_first() -> None:
    twice = [at("2026-10-25T02:59:59.500+02:00", 1), at("2026-10-25T02:30+01:00", 2)]
    assert find_point(twice, "web@2026-10-25T02:59:59", BERLIN).number == 1
    assert find_point(twice, "web@2026-10-25T02:30+01:00", BERLIN).number == 2


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("web@2026-11-23T11:00", "no recovery point of web at or before", "2026-11-23T12:00:00+00:00"),
        ("web@2026-11-23", "is a whole day", "2026-11-23T23:59:59"),
        ("web@20261123", "is a whole day", ""),
        ("web@yesterday", "is not a time", "MACHINE@"),
        ("web@2026-13-01T00:00", "is not a time", ""),
        ("db@latest", "no recovery point of a machine 'db'", "web, web@dmz: 1"),
        ("web", "is a machine", "web@latest"),
        ("000", "names no recovery point", "at least 4"),
        ("zzzz", "names no recovery point", ""),
        ("00030003000300030", "names no recovery point", ""),
        ("ffff", "no recovery point whose id begins with ffff", ""),
        ("", "names no recovery point", ""),
        ("@", "no recovery point of a machine ''", ""),
    ],
)
def test_a_mistake_is_explained(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        number_of(text)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_an_id_prefix_must_be_unique() -> None:
    alike = [make_point(datetime(2026, 1, 1, tzinfo=UTC), number=n, point_id=f"abcd{n:012x}") for n in (1, 2)]
    assert find_point(alike, "ABCD000000000002").number == 2
    with pytest.raises(UsageError, match="2 recovery points"):
        find_point(alike, "abcd")


def test_latest_goes_by_time_not_by_the_log() -> None:
    points = [at("2026-11-23T14:00+00:00", 1), at("2026-11-23T13:00+00:00", 2)]
    assert find_point(points, "web@latest").number == 1


@given(st.text(max_size=30) | st.from_regex(r"web@[0-9T:+. -]{0,24}", fullmatch=True))
def test_any_text_finds_a_point_or_is_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        assert number_of(text) in {1, 2, 3, 4}
