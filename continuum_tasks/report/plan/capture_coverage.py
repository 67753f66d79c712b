"""Decide what a report says of a capture over a period: how much of the time it covered, its holes, lag and cost. Pure.

It is measured each minute, at rest every ten, and after two days the greatest value of each hour is left: what is said of a
time without measurements is what was measured before it, for no longer than that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import TypeAlias

from continuum_tasks.history.timeline import Hole
from continuum_tasks.report.plan.exposure import Followed

MINUTES_KEPT = timedelta(days=2)
_FINE, _COARSE = timedelta(minutes=12), timedelta(hours=2, minutes=5)
DURABLE_WITHIN_SECONDS = 60.0  # older than that, commits waited for the storage

Series: TypeAlias = Sequence[tuple[datetime, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRows:
    """What was measured of one database's capture, each oldest first, and its holes. `down` is 1 while nothing is captured.

    `ages` are of the recovery point, `lags_p50` and `lags_p95` from commit to storage, in seconds; the last three are counters
    that begin anew with the process or the timeline.
    """

    database: str
    down: Series = ()
    ages: Series = ()
    lags_p50: Series = ()
    lags_p95: Series = ()
    wal_bytes: Series = ()
    commits: Series = ()
    stored_bytes: Series = ()
    requests: Series = ()
    holes: tuple[Hole, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedHole:
    """A hole, as a report tells it: `commit` is the first one after it."""

    begins_at: datetime
    ends_at: datetime
    timeline: str
    commit: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureCoverage:
    """The capture of one database over a period, known from `begins_at` on.

    `share` of that time (0 to 1) every commit was captured and, within a minute, in the storage; `slices` is the same for
    equal slices of the period, None where nothing is known. Lags in seconds: medians, the worst p95, and p50 and p95 per
    slice.
    """

    begins_at: datetime
    share: float
    missed_seconds: float
    slices: tuple[float | None, ...]
    holes: tuple[ReportedHole, ...]
    lag_p50_seconds: float | None
    lag_p95_seconds: float | None
    lag_worst_seconds: float | None
    slice_lags: tuple[tuple[float | None, float | None], ...]
    wal_peak_bytes: int
    n_commits: int
    stored_bytes: int
    n_requests: int


def capture_coverage(rows: CaptureRows, *, since: datetime, until: datetime, n_slices: int) -> CaptureCoverage | None:
    """Sum up a period; None when nothing was measured in it."""
    down = _within(rows.down, since, until)
    if not down:
        return None
    begins_at = down[0][0]
    edges = [since + (until - since) / n_slices * i for i in range(n_slices)] + [until]
    good = [one for one in followed(rows, since=since, until=until) if one.age_seconds <= DURABLE_WITHIN_SECONDS]
    holes = sorted((h for h in rows.holes if h.seconds_within(since, until)), key=lambda h: h.to_us, reverse=True)
    span = (until - begins_at).total_seconds()
    covered = _covered(good, holes, begins_at, until)
    p50, p95 = (_within(series, since, until) for series in (rows.lags_p50, rows.lags_p95))
    return CaptureCoverage(
        begins_at=begins_at,
        share=covered / span if span else 1.0,
        missed_seconds=span - covered,
        slices=tuple(_share(good, holes, max(a, begins_at), b) for a, b in pairwise(edges)),
        holes=tuple(_missed(hole) for hole in holes),
        lag_p50_seconds=_median(p50),
        lag_p95_seconds=_median(p95),
        lag_worst_seconds=_greatest(p95),
        slice_lags=tuple((_greatest(_from(p50, a, b)), _greatest(_from(p95, a, b))) for a, b in pairwise(edges)),
        wal_peak_bytes=int(_greatest(_within(rows.wal_bytes, since, until)) or 0),
        n_commits=_increase(_within(rows.commits, since, until)),
        stored_bytes=_increase(_within(rows.stored_bytes, since, until)),
        n_requests=_increase(_within(rows.requests, since, until)),
    )


def followed(rows: CaptureRows, *, since: datetime, until: datetime) -> tuple[Followed, ...]:
    """Return the stretches in which commits were captured as they came, each with the recovery point's greatest age."""
    down = _within(rows.down, since, until)
    ends = [*(at for at, _ in down[1:]), until]
    found = []
    for (at, is_down), end in zip(down, ends, strict=False):
        longest = _COARSE if until - at > MINUTES_KEPT else _FINE
        if not is_down and timedelta(0) < end - at <= longest:
            age = _greatest(_within(rows.ages, at, end))
            found.append(Followed(begins_at=at, ends_at=end, age_seconds=age or 0.0))
    return tuple(found)


def _within(series: Series, since: datetime, until: datetime) -> Series:
    begin = bisect_left(series, since, key=lambda one: one[0])
    return series[begin : bisect_right(series, until, key=lambda one: one[0])]


def _from(series: Series, since: datetime, until: datetime) -> Series:
    """As `_within`, without what is at the very end: slices share no measurement."""
    return series[bisect_left(series, since, key=lambda one: one[0]) : bisect_left(series, until, key=lambda one: one[0])]


def _covered(good: Sequence[Followed], holes: Sequence[Hole], since: datetime, until: datetime) -> float:
    """Return the seconds of a span that lie in one of the stretches and in no hole."""
    first = max(0, bisect_right(good, since, key=lambda one: one.begins_at) - 1)
    seconds = 0.0
    for one in good[first:]:
        if one.begins_at >= until:
            break
        begins, ends = max(one.begins_at, since), min(one.ends_at, until)
        seconds += max(0.0, (ends - begins).total_seconds() - sum(hole.seconds_within(begins, ends) for hole in holes))
    return seconds


def _share(good: Sequence[Followed], holes: Sequence[Hole], since: datetime, until: datetime) -> float | None:
    span = (until - since).total_seconds()
    return _covered(good, holes, since, until) / span if span > 0 else None


def _missed(hole: Hole) -> ReportedHole:
    return ReportedHole(
        begins_at=hole.begins_at, ends_at=hole.ends_at, timeline=hole.timeline, commit=hole.commit, reason=hole.reason
    )


def _median(series: Series) -> float | None:
    return median(value for _, value in series) if series else None


def _greatest(series: Iterable[tuple[datetime, float]]) -> float | None:
    return max((value for _, value in series), default=None)


def _increase(series: Series) -> int:
    """Return by how much a counter rose; one that is lower than before has begun anew."""
    return int(sum(after - before if after >= before else after for (_, before), (_, after) in pairwise(series)))
