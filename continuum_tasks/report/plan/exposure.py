"""Decide how far back a restore would have gone at each instant of a period, and when that was too far. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

SAME_POINT = timedelta(seconds=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """A state one could go back to: the instant of the snapshot, and when the backup of it was there."""

    created_at: datetime
    available_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A stretch in which the recovery point followed the present, never older than `age_seconds`."""

    begins_at: datetime
    ends_at: datetime
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time in which a restore would have lost more than the target allows.

    `since` is the recovery point's instant, None when there never was one; `until` is when the next one came, or the end of
    the period when none did (`open`). `age_seconds` is the greatest age in it, None without a recovery point.
    """

    begins_at: datetime
    until: datetime
    since: datetime | None
    open: bool
    age_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One database's recovery point over a period: the age at its end, the worst, the time over the target, every gap.

    Observed from the first recovery point that is known, where that is later than the period's begin. `ages` is the greatest
    age in each of equal slices of the period, None before there was a recovery point. `target_seconds` 0 = no schedule, then
    nothing is a gap. Ages are in seconds.
    """

    target_seconds: int
    last_seconds: float | None
    worst_seconds: float | None
    over_seconds: float
    gaps: tuple[Gap, ...]
    ages: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """What one could go back to: single states, and stretches, in order and apart, in which any commit could be had."""

    made: Iterable[RecoveryPoint]
    followed: Sequence[Followed] = ()


def follow_exposure(points: Points, *, target_seconds: int, since: datetime, until: datetime, n_slices: int) -> Exposure:
    """Follow the age of the newest recovery point from `since` to `until`."""
    ends = [
        RecoveryPoint(created_at=one.ends_at - timedelta(seconds=one.age_seconds), available_at=one.ends_at)
        for one in points.followed
    ]
    there = [point for point in (*points.made, *ends) if point.available_at <= until]
    first = min((*(point.available_at for point in there), *(one.begins_at for one in points.followed)), default=since)
    steps = _overlaid(_steps(there, since=max(since, first), until=until), points.followed)
    gaps = _joined(gap for step in steps for gap in _gap(step, target_seconds, last=step is steps[-1]))
    known = [step.oldest for step in steps if step.oldest is not None]
    return Exposure(
        target_seconds=target_seconds,
        last_seconds=steps[-1].oldest,
        worst_seconds=max(known, default=None),
        over_seconds=sum((gap.until - gap.begins_at).total_seconds() for gap in gaps),
        gaps=gaps,
        ages=_ages(steps, since=since, until=until, n=n_slices),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A stretch in which the newest recovery point was the same one, or was never older than `age_seconds`."""

    begins_at: datetime
    ends_at: datetime
    created_at: datetime | None
    age_seconds: float | None = None

    @property
    def oldest(self) -> float | None:
        return self.age(self.ends_at)

    def age(self, at: datetime) -> float | None:
        """Return how old the recovery point was then at most."""
        if self.created_at is None or self.age_seconds is not None:
            return self.age_seconds
        return max(0.0, (at - self.created_at).total_seconds())


def _steps(points: Iterable[RecoveryPoint], *, since: datetime, until: datetime) -> list[_Step]:
    """Cut the period where a newer recovery point became available; an older state that came late changes nothing."""
    cuts: list[tuple[datetime, datetime | None]] = [(since, None)]
    for point in sorted(points, key=lambda p: (p.available_at, p.created_at)):
        at = max(point.available_at, since)
        newest = cuts[-1][1]
        if newest is None or point.created_at > newest:
            cuts = cuts[:-1] if cuts[-1][0] == at else cuts
            cuts.append((at, point.created_at))
    ends = [*(at for at, _ in cuts[1:]), until]
    return [_Step(begins_at=at, ends_at=end, created_at=created) for (at, created), end in zip(cuts, ends, strict=True)]


def _overlaid(steps: Sequence[_Step], followed: Sequence[Followed]) -> list[_Step]:
    """Put the stretches in the place of what the steps, which follow each other, say of that time."""
    made, left = list[_Step](), deque(followed)
    for step in steps:
        at = step.begins_at
        while left and left[0].begins_at < step.ends_at:
            begins, ends = max(at, left[0].begins_at), min(left[0].ends_at, step.ends_at)
            if at < begins:
                made.append(replace(step, begins_at=at, ends_at=begins))
            if begins < ends:
                made.append(_Step(begins_at=begins, ends_at=ends, created_at=None, age_seconds=left[0].age_seconds))
            at = max(at, ends)
            if left[0].ends_at > step.ends_at:
                break
            left.popleft()
        if at < step.ends_at or at == step.begins_at:
            made.append(replace(step, begins_at=at))
    return made


def _joined(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Make one of gaps that touch: what is measured each minute would be a gap each minute."""
    made: list[Gap] = []
    for gap in gaps:
        if made and made[-1].until == gap.begins_at and _is_same_point(made[-1], gap):
            age = max(made[-1].age_seconds or 0.0, gap.age_seconds or 0.0)
            made[-1] = replace(made[-1], until=gap.until, open=gap.open, age_seconds=age)
        else:
            made.append(gap)
    return tuple(made)


def _is_same_point(one: Gap, following: Gap) -> bool:
    return one.since is not None and following.since is not None and abs(following.since - one.since) < SAME_POINT


def _gap(step: _Step, target_seconds: int, *, last: bool) -> Iterable[Gap]:
    if not target_seconds:
        return
    if step.age_seconds is not None:
        if step.age_seconds > target_seconds:
            since = step.ends_at - timedelta(seconds=step.age_seconds)
            yield Gap(begins_at=step.begins_at, until=step.ends_at, since=since, open=last, age_seconds=step.age_seconds)
        return
    begins = step.begins_at
    if step.created_at is not None:
        begins = max(begins, step.created_at + timedelta(seconds=target_seconds))
    if begins < step.ends_at:
        yield Gap(begins_at=begins, until=step.ends_at, since=step.created_at, open=last, age_seconds=step.oldest)


def _ages(steps: Sequence[_Step], *, since: datetime, until: datetime, n: int) -> tuple[float | None, ...]:
    width = (until - since) / n
    edges = [since + width * i for i in range(n)] + [until]
    starts = [step.begins_at for step in steps]
    return tuple(_greatest(steps, starts, begins, ends) for begins, ends in pairwise(edges))


def _greatest(steps: Sequence[_Step], starts: Sequence[datetime], begins: datetime, ends: datetime) -> float | None:
    """Return the greatest age in a slice: at the end of each step in it, or at the slice's own end."""
    first, last = max(0, bisect_right(starts, begins) - 1), bisect_left(starts, ends)
    here = (step.age(min(step.ends_at, ends)) for step in steps[first:last])
    return max((age for age in here if age is not None), default=None)
