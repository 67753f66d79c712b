"""What a report says of captures over a period; against a model that looks at every minute."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.history.timeline import Hole
from continuum_tasks.report.plan.capture_coverage import CaptureCoverage, CaptureRows, capture_coverage, followed
from continuum_tasks.units import microseconds
from tests.unit.report.plan import reports
from tests.unit.retention.plan.rows import NOW, ago

MINUTE = timedelta(minutes=1)
WEEK = {"since": ago(days=7), "until": NOW}
HOURS = 3600.0


def summed(rows: CaptureRows, n_slices: int = 7) -> CaptureCoverage:
    found = capture_coverage(rows, n_slices=n_slices, **WEEK)
    assert found is not None
    return found


def measured(minutes: dict[int, float], **changes: object) -> CaptureRows:
    """Return rows measured so many minutes ago as down (1) or not (0)."""
    rows = CaptureRows(database="memory", down=tuple((ago(minutes=m), v) for m, v in sorted(minutes.items(), reverse=True)))
    return replace(rows, **changes)  # type: ignore[arg-type]


def test_the_numbers_of_three_days_that_were_measured_each_hour() -> None:
    """The last two days are kept by the minute, so there an hour says nothing of itself but its first twelve minutes."""
    found = summed(reports.captured(down=tuple((ago(hours=h), float(h == 60)) for h in range(72, 47, -1))))

    assert found.begins_at == ago(hours=72)
    assert found.missed_seconds == 49 * HOURS
    assert found.share == pytest.approx(23 / 72)
    assert [None if one is None else round(one, 3) for one in found.slices] == [
        *(None, None, None, None, round(23 / 24, 3), 0.0, 0.0)
    ]
    assert [hole.commit for hole in found.holes] == [900]
    assert (found.holes[0].begins_at, found.holes[0].ends_at) == (ago(hours=30), ago(hours=30) + MINUTE)
    assert (found.lag_p50_seconds, found.lag_p95_seconds, found.lag_worst_seconds) == (0.6, 1.1, 1.2)
    assert found.slice_lags == ((None, None),) * 4 + ((0.6, 1.2),) * 3
    assert (found.wal_peak_bytes, found.n_commits, found.n_requests) == (71_000, 710, 71)
    assert found.stored_bytes == 5900 + 1100  # begun anew once


def test_what_was_not_measured_is_not_known() -> None:
    assert capture_coverage(CaptureRows(database="memory"), n_slices=7, **WEEK) is None
    old = measured({8 * 24 * 60: 0.0})
    assert capture_coverage(old, n_slices=7, **WEEK) is None
    only_now = summed(measured({0: 0.0}))
    assert (only_now.share, only_now.missed_seconds, only_now.lag_p95_seconds) == (1.0, 0.0, None)
    assert (only_now.slices, only_now.wal_peak_bytes) == ((None,) * 7, 0)


def test_at_rest_ten_minutes_follow_each_other_and_twenty_do_not() -> None:
    assert summed(measured({20: 0.0, 10: 0.0, 0: 0.0})).share == 1.0
    assert summed(measured({30: 0.0, 10: 0.0, 0: 0.0})).share == pytest.approx(1 / 3)
    days = 3 * 24 * 60
    assert [one.begins_at for one in followed(measured({days: 0.0, days - 120: 0.0}), **WEEK)] == [ago(minutes=days)]


def test_commits_that_wait_for_the_storage_for_more_than_a_minute_are_not_covered() -> None:
    rows = measured(dict.fromkeys(range(10), 0.0), ages=((ago(minutes=9), 3.0), (ago(minutes=5), 61.0), (ago(minutes=1), 60.0)))

    assert [one.age_seconds for one in followed(rows, **WEEK)] == [3, 0, 0, 61, 61, 0, 0, 60, 60]
    assert summed(rows).share == pytest.approx(7 / 9)


@given(
    down=st.lists(st.booleans(), min_size=2, max_size=120),
    holes=st.lists(st.tuples(st.integers(0, 119), st.integers(1, 30)), max_size=4),
    n_slices=st.integers(1, 12),
)
def test_coverage_agrees_with_looking_at_each_minute(down: list[bool], holes: list[tuple[int, int]], n_slices: int) -> None:
    n = len(down) - 1
    since = NOW - n * MINUTE
    apart, at = list[Hole](), 0
    for begin, length in sorted(holes):
        begin = max(begin, at)
        at = begin + length
        from_us, to_us = (microseconds(since + m * MINUTE) for m in (begin, at))
        apart.append(Hole(timeline="t", commit=1, from_us=from_us, to_us=to_us, reason=""))
    rows = CaptureRows(
        database="memory", down=tuple((since + m * MINUTE, float(one)) for m, one in enumerate(down)), holes=tuple(apart)
    )

    found = capture_coverage(rows, since=since, until=NOW, n_slices=n_slices)

    def covered(minute: datetime) -> bool:
        if down[(minute - since) // MINUTE]:
            return False
        return not any(one.begins_at <= minute < one.ends_at for one in apart)

    good = sum(covered(since + m * MINUTE) for m in range(n))
    assert found is not None
    assert found.share == pytest.approx(good / n)
    assert found.missed_seconds == pytest.approx(60 * (n - good))
    assert sum(one or 0.0 for one in found.slices) / n_slices == pytest.approx(good / n)
