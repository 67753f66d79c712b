"""How far back a restore would have gone, at each instant of a period; against a model that looks at every minute."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.plan.exposure import Exposure, RecoveryPoint, exposure
from tests.unit.plan.rows import NOW

HOUR = timedelta(hours=1)
SINCE = NOW - 24 * HOUR


def point(hours_ago: float, *, took_minutes: float = 0) -> RecoveryPoint:
    at = NOW - hours_ago * HOUR
    return RecoveryPoint(created_at=at, available_at=at + timedelta(minutes=took_minutes))


def follow(*points: RecoveryPoint, target: int = 3600, n: int = 24) -> Exposure:
    return exposure(points, target_seconds=target, since=SINCE, until=NOW, n_slices=n)


def test_points_that_come_in_time_leave_no_gap() -> None:
    found = follow(*(point(h / 2) for h in range(52)))
    assert (found.gaps, found.over_seconds, found.worst_seconds, found.last_seconds) == ((), 0, 1800, 0)


def test_a_gap_begins_when_the_target_is_passed_and_ends_when_the_next_backup_is_there() -> None:
    found = follow(point(25), point(10), point(7, took_minutes=30), point(0.5), target=7200)
    ends = [(round((NOW - g.begins_at) / HOUR, 3), round((NOW - g.until) / HOUR, 3), g.open, g.age_seconds) for g in found.gaps]
    assert ends == [(23, 10, False, 15 * 3600), (8, 6.5, False, 3.5 * 3600), (5, 0.5, False, 6.5 * 3600)]
    assert found.over_seconds == (13 + 1.5 + 4.5) * 3600
    assert found.worst_seconds == 15 * 3600


def test_a_gap_that_nothing_ended_is_open() -> None:
    found = follow(point(25), point(3))
    assert [gap.open for gap in found.gaps] == [False, True]
    assert found.gaps[-1].until == NOW and found.last_seconds == 3 * 3600


def test_without_any_recovery_point_the_whole_period_is_one_open_gap() -> None:
    found = follow()
    (gap,) = found.gaps
    assert (gap.begins_at, gap.until, gap.since, gap.open, gap.age_seconds) == (SINCE, NOW, None, True, None)
    assert (found.worst_seconds, found.last_seconds, set(found.ages)) == (None, None, {None})


def test_time_before_the_first_known_point_is_not_held_against_a_new_host() -> None:
    found = follow(point(2), point(1.5), point(1), point(0.5))
    assert found.gaps == ()
    assert found.ages[:22] == (None,) * 22 and None not in found.ages[22:]


def test_an_older_state_that_becomes_available_late_changes_nothing() -> None:
    late = RecoveryPoint(created_at=NOW - 20 * HOUR, available_at=NOW - HOUR)
    assert follow(point(25), point(2), late) == follow(point(25), point(2))


def test_points_ahead_of_the_period_do_not_count() -> None:
    assert follow(point(25), point(-1)) == follow(point(25))


def test_without_a_schedule_nothing_is_a_gap() -> None:
    found = follow(point(25), target=0)
    assert (found.gaps, found.over_seconds, found.worst_seconds) == ((), 0, 25 * 3600)


def test_a_point_at_the_very_end_makes_the_age_zero() -> None:
    assert follow(point(25), point(0)).last_seconds == 0


@given(
    st.lists(st.tuples(st.integers(1, 48 * 60), st.integers(0, 90)), min_size=1, max_size=12),
    st.sampled_from([600, 3600, 7200]),
)
def test_every_number_agrees_with_looking_at_each_minute(made: list[tuple[int, int]], target: int) -> None:
    points = [point(minutes / 60, took_minutes=took) for minutes, took in made]
    found = follow(*points, target=target)

    def age(at: datetime) -> float | None:
        there = [p.created_at for p in points if p.available_at <= at]
        return (at - max(there)).total_seconds() if there else None

    instants = [SINCE + timedelta(minutes=i) for i in range(24 * 60 + 1)]
    ages = [age(at) for at in instants]
    known = [a for a in ages if a is not None]
    assert found.last_seconds == ages[-1] == (known[-1] if known else None)
    # Between two looks an age grows by a minute at most, and it is greatest right before a backup comes.
    if known:
        assert found.worst_seconds is not None
        assert max(known) - 0.001 <= found.worst_seconds <= max(known) + 60
        over = 60 * sum(a is not None and a > target for a in ages)
        assert found.over_seconds == pytest.approx(over, abs=60 * (len(made) + 1))
    for begins, ends in zip(found.gaps, found.gaps[1:], strict=False):
        assert begins.until <= ends.begins_at
