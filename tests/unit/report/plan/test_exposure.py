"""How far back a restore would have gone, at each instant of a period; against a model that looks at every minute."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.report.plan.exposure import Exposure, Followed, Points, RecoveryPoint, follow_exposure
from tests.unit.retention.plan.rows import NOW

HOUR = timedelta(hours=1)
SINCE = NOW - 24 * HOUR


def point(hours_ago: float, *, took_minutes: float = 0) -> RecoveryPoint:
    at = NOW - hours_ago * HOUR
    return RecoveryPoint(created_at=at, available_at=at + timedelta(minutes=took_minutes))


def follow(*points: RecoveryPoint, target: int = 3600, n: int = 24) -> Exposure:
    return follow_exposure(Points(made=points), target_seconds=target, since=SINCE, until=NOW, n_slices=n)


def test_while_commits_are_captured_the_age_stays_what_it_was_measured() -> None:
    stretches = [
        Followed(begins_at=SINCE + h * HOUR, ends_at=SINCE + (h + 1) * HOUR, age_seconds=2.0 + h) for h in (2, 3, 4, 20, 21)
    ]
    found = follow_exposure(
        Points(made=(point(25), point(10)), followed=stretches), target_seconds=3600, since=SINCE, until=NOW, n_slices=24
    )

    assert [None if age is None else round(age) for age in found.ages] == [
        *(2 * 3600, 3 * 3600, 4, 5, 6),
        *(6 + 3600 * n for n in range(1, 10)),
        *(3600 * n for n in range(1, 7)),
        *(22, 23, 23 + 3600, 23 + 2 * 3600),
    ]
    assert [(g.begins_at, g.until) for g in found.gaps] == [
        (SINCE, SINCE + 2 * HOUR),
        (SINCE + 6 * HOUR - timedelta(seconds=6), SINCE + 14 * HOUR),
        (SINCE + 15 * HOUR, SINCE + 20 * HOUR),
        (SINCE + 23 * HOUR - timedelta(seconds=23), NOW),
    ]


def test_commits_that_wait_for_the_storage_minute_after_minute_are_one_gap() -> None:
    """The storage is away for half an hour: the recovery point stays where it was until all is shipped at once."""
    ages = [*(10 + 60 * n for n in range(30)), 10]
    stretches = [
        Followed(begins_at=NOW - timedelta(minutes=31 - n), ends_at=NOW - timedelta(minutes=30 - n), age_seconds=age)
        for n, age in enumerate(ages)
    ]

    def over(stretches: list[Followed]) -> Exposure:
        return follow_exposure(Points(made=(), followed=stretches), target_seconds=300, since=SINCE, until=NOW, n_slices=24)

    found = over(stretches)
    (gap,) = found.gaps
    assert (gap.begins_at, gap.until, gap.open) == (NOW - timedelta(minutes=26), NOW - timedelta(minutes=1), False)
    assert (gap.age_seconds, found.last_seconds, found.worst_seconds) == (ages[-2], 10, ages[-2])
    (gap,) = over(stretches[:-1]).gaps
    assert (gap.until, gap.open, gap.age_seconds) == (NOW, True, ages[-2] + 60)


def test_a_stretch_that_reaches_over_the_ends_of_the_period_is_cut() -> None:
    all_of_it = Followed(begins_at=SINCE - HOUR, ends_at=NOW + HOUR, age_seconds=3.0)
    found = follow_exposure(
        Points(made=(point(12),), followed=[all_of_it]), target_seconds=3600, since=SINCE, until=NOW, n_slices=4
    )

    assert (found.ages, found.gaps, found.last_seconds) == ((3.0,) * 4, (), 3.0)
    with_last = Points(made=(point(12), point(0)), followed=[all_of_it])
    assert follow_exposure(with_last, target_seconds=3600, since=SINCE, until=NOW, n_slices=4).last_seconds == 0


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
