"""Keep rules: a table of cases made by hand, and a naive model beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.repository.points import Consistency, RecoveryPoint
from stillframe.repository.retention import KeepRules, Verdict, judge
from tests.repository.point_maker import make_point

BERLIN = ZoneInfo("Europe/Berlin")
APPLICATION, CRASH, BAD = Consistency.APPLICATION, Consistency.CRASH, Consistency.INCONSISTENT


def points_at(*texts: str, zone: tzinfo = UTC) -> list[RecoveryPoint]:
    """Points of these local times, or times with an offset, in the order of the log."""
    moments = [datetime.fromisoformat(text) for text in texts]
    return [
        make_point(moment if moment.tzinfo else moment.replace(tzinfo=zone), number=number)
        for number, moment in enumerate(moments, start=1)
    ]


def kept_numbers(points: Sequence[RecoveryPoint], rules: KeepRules, zone: tzinfo = UTC) -> list[int]:
    return sorted(verdict.point.number for verdict in judge(points, rules, zone) if verdict.is_kept)


@pytest.mark.parametrize(
    ("rules", "texts", "kept"),
    [
        pytest.param(
            KeepRules(last=2), ["2026-01-01T10:00", "2026-01-02T10:00", "2026-01-03T10:00"], [2, 3], id="last"
        ),
        pytest.param(
            KeepRules(daily=2),
            ["2026-01-01T10:00", "2026-01-01T23:59", "2026-01-02T00:00", "2026-01-02T09:00"],
            [2, 4],
            id="the newest of each day",
        ),
        pytest.param(
            KeepRules(daily=2),
            ["2026-01-01T10:00", "2026-01-20T10:00", "2026-03-01T10:00"],
            [2, 3],
            id="days without points do not count",
        ),
        pytest.param(
            KeepRules(hourly=2),
            ["2026-01-01T10:05", "2026-01-01T10:55", "2026-01-01T11:00", "2026-01-01T12:59"],
            [3, 4],
            id="hours",
        ),
        pytest.param(
            KeepRules(weekly=3),
            # 2026-12-28 is a Monday; 2027-01-03, the Sunday after it, is of the same ISO week 2026-W53.
            ["2026-12-27T12:00", "2026-12-28T12:00", "2027-01-03T12:00", "2027-01-04T12:00"],
            [1, 3, 4],
            id="a week over new year is one week",
        ),
        pytest.param(
            KeepRules(monthly=2, yearly=2),
            ["2025-12-31T23:59", "2026-01-01T00:00", "2026-11-30T10:00", "2026-12-01T10:00"],
            [1, 3, 4],
            id="months and years",
        ),
        pytest.param(
            KeepRules(yearly=5),
            ["2024-02-29T10:00", "2024-12-31T23:59:59.999", "2025-01-01T00:00"],
            [2, 3],
            id="the last millisecond of a year",
        ),
        pytest.param(
            KeepRules(daily=1, weekly=1),
            ["2026-01-05T10:00", "2026-01-06T10:00"],
            [2],
            id="rules may keep the same point",
        ),
    ],
)
def test_rules_keep(rules: KeepRules, texts: list[str], kept: list[int]) -> None:
    assert kept_numbers(points_at(*texts), rules) == kept


def test_days_begin_at_local_midnight() -> None:
    points = points_at("2026-07-01T22:30+00:00", "2026-07-01T23:30+00:00")
    assert kept_numbers(points, KeepRules(daily=9), UTC) == [2]
    assert kept_numbers(points_at("2026-07-01T21:30Z", "2026-07-01T22:30Z"), KeepRules(daily=9), BERLIN) == [
        1,
        2,
    ]


def test_the_hour_that_a_clock_set_back_repeats_is_two_hours() -> None:
    # 2026-10-25 in Berlin: 02:00 to 03:00 comes twice, first at +02:00, then at +01:00.
    points = points_at("2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T02:40+01:00")
    assert kept_numbers(points, KeepRules(hourly=9), BERLIN) == [1, 3]
    assert kept_numbers(points, KeepRules(daily=9), BERLIN) == [3]


def test_a_day_of_23_hours_is_one_day() -> None:
    points = points_at("2026-03-29T00:30", "2026-03-29T23:30", "2026-03-30T00:30", zone=BERLIN)
    assert kept_numbers(points, KeepRules(daily=9), BERLIN) == [2, 3]


def test_without_a_zone_days_are_those_of_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    points = points_at("2026-07-01T21:30Z", "2026-07-01T22:30Z")
    try:
        for name, kept in (("Europe/Berlin", [1, 2]), ("UTC", [2])):
            monkeypatch.setenv("TZ", name)
            time.tzset()
            verdicts = judge(points, KeepRules(daily=9))
            assert sorted(v.point.number for v in verdicts if v.is_kept) == kept
    finally:
        monkeypatch.undo()
        time.tzset()


def test_machines_are_judged_each_by_itself() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    points = [
        make_point(moment + timedelta(days=day), number=10 * day + index, machine=machine)
        for day in range(3)
        for index, machine in enumerate(("web", "db"), start=1)
    ]
    assert kept_numbers(points, KeepRules(last=1)) == [21, 22]


def test_an_inconsistent_point_represents_its_period_only_where_there_is_no_better() -> None:
    day = datetime(2026, 1, 1, 10, tzinfo=UTC)
    points = [
        make_point(day, number=1),
        make_point(day + timedelta(hours=1), number=2, consistency=BAD),
        make_point(day + timedelta(days=1), number=3, consistency=BAD),
    ]
    assert kept_numbers(points, KeepRules(daily=2)) == [1, 3]


def test_the_last_good_points_survive_all_rules() -> None:
    day = datetime(2026, 1, 1, 10, tzinfo=UTC)
    levels = [APPLICATION, APPLICATION, CRASH, CRASH, BAD, BAD]
    points = [
        make_point(day + timedelta(days=n), number=n, consistency=level) for n, level in enumerate(levels)
    ]
    verdicts = {verdict.point.number: verdict.reasons for verdict in judge(points, KeepRules(last=1), UTC)}
    assert verdicts == {
        0: (),
        1: ("last application-consistent",),
        2: (),
        3: ("last consistent",),
        4: (),
        5: ("last",),
    }


def test_a_clock_that_ran_ahead_does_not_cost_the_newest_point() -> None:
    points = points_at("2026-01-01T10:00", "2099-01-01T10:00", "2026-01-02T10:00", "2026-01-03T10:00")
    verdicts = {verdict.point.number: verdict.reasons for verdict in judge(points, KeepRules(last=1), UTC)}
    assert verdicts == {1: (), 2: ("last", "last consistent"), 3: (), 4: ("stored last",)}


def test_pinned_points_stay_and_reasons_say_why() -> None:
    points = [
        make_point(datetime(2026, 1, 1, tzinfo=UTC), number=1, pinned=True),
        make_point(datetime(2026, 1, 2, tzinfo=UTC), number=2),
    ]
    verdicts = judge(points, KeepRules(last=1, daily=1), UTC)
    assert [(v.point.number, v.reasons) for v in verdicts] == [
        (2, ("last", "daily 2026-01-02", "last consistent")),
        (1, ("pinned",)),
    ]


def test_of_equal_times_the_log_decides() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    points = [make_point(moment, number=number) for number in (2, 1, 3)]
    assert kept_numbers(points, KeepRules(last=1)) == [3]


# --- the model: for every rule, ask of every point directly whether it is kept

MODEL_PERIODS = {
    "hourly": lambda local: (local.date(), local.hour, local.utcoffset()),
    "daily": lambda local: local.date(),
    "weekly": lambda local: tuple(local.isocalendar())[:2],
    "monthly": lambda local: (local.year, local.month),
    "yearly": lambda local: local.year,
}


def rank(point: RecoveryPoint) -> tuple[datetime, int]:
    return point.time, point.number


def model_keeps(
    point: RecoveryPoint, everyone: Sequence[RecoveryPoint], rules: KeepRules, zone: tzinfo
) -> bool:
    own = [other for other in everyone if other.machine == point.machine]
    newer = [other for other in own if rank(other) > rank(point)]
    if point.pinned or len(newer) < rules.last:
        return True
    if point.consistency is APPLICATION and not any(o.consistency is APPLICATION for o in newer):
        return True
    after = [other for other in own if other.number > point.number]
    if point.consistency is not BAD and any(
        all(o.consistency is BAD for o in group) for group in (newer, after)
    ):
        return True
    return any(model_rule(point, own, getattr(rules, name), key, zone) for name, key in MODEL_PERIODS.items())


def model_rule(
    point: RecoveryPoint,
    own: Sequence[RecoveryPoint],
    count: int,
    key: Callable[[datetime], object],
    zone: tzinfo,
) -> bool:
    mine = key(point.time.astimezone(zone))
    later = {key(other.time.astimezone(zone)) for other in own if rank(other) > rank(point)} - {mine}
    if len(later) >= count:
        return False
    peers = [other for other in own if key(other.time.astimezone(zone)) == mine]
    good = [other for other in peers if other.consistency is not BAD] or peers
    return max(good, key=rank) is point


moments = st.one_of(
    st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    # Crowded around new year and the two changes of the clocks.
    st.builds(
        lambda start, minutes: start + timedelta(minutes=minutes),
        st.sampled_from(
            [
                datetime(2026, 12, 31, 20, tzinfo=UTC),
                datetime(2026, 10, 24, 21, tzinfo=UTC),
                datetime(2026, 3, 28, 22, tzinfo=UTC),
            ]
        ),
        st.integers(0, 60 * 30),
    ),
)
machines = st.lists(
    st.builds(
        make_point,
        moments,
        machine=st.sampled_from(["web", "db"]),
        consistency=st.sampled_from(list(Consistency)),
        pinned=st.sampled_from([False] * 9 + [True]),
    ),
    max_size=30,
)
counts = st.integers(0, 5)
rules_strategy = st.builds(KeepRules, counts, counts, counts, counts, counts, counts)
zones = st.sampled_from([UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")])


@given(machines, rules_strategy, zones)
def test_the_rules_agree_with_the_model(points: list[RecoveryPoint], rules: KeepRules, zone: tzinfo) -> None:
    numbered = [make_numbered(point, number) for number, point in enumerate(points, start=1)]
    expected = sorted(p.number for p in numbered if model_keeps(p, numbered, rules, zone))
    assert kept_numbers(numbered, rules, zone) == expected


@given(machines, rules_strategy, zones)
def test_judging_again_after_forgetting_changes_nothing(
    points: list[RecoveryPoint], rules: KeepRules, zone: tzinfo
) -> None:
    numbered = [make_numbered(point, number) for number, point in enumerate(points, start=1)]
    kept = [verdict.point for verdict in judge(numbered, rules, zone) if verdict.is_kept]
    again = judge(kept, rules, zone)
    assert all(verdict.is_kept for verdict in again)


def make_numbered(point: RecoveryPoint, number: int) -> RecoveryPoint:
    return make_point(
        point.time,
        number=number,
        machine=point.machine,
        consistency=point.consistency,
        pinned=point.pinned,
    )


def test_a_verdict_without_reasons_forgets() -> None:
    point = make_point(datetime(2026, 1, 1, tzinfo=UTC))
    assert not Verdict(point, ()).is_kept


def test_rules_describe_themselves_for_the_log() -> None:
    assert KeepRules(last=3, weekly=4).describe() == "keep last 3, weekly 4"
    assert KeepRules().keep_nothing
    assert not KeepRules(yearly=1).keep_nothing
