"""What storages hold, how fast that grows, when they fill: numbers against their inputs."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_tasks.findings import Trouble
from continuum_tasks.model import Strategy
from continuum_tasks.report.plan.usage import StorageReading, UsagePoint, add_up_usage, cumulative, fills_at, growth_per_day
from tests.unit.retention.plan.rows import NOW, ago, backup

GIB = 1024**3


def points(*n_bytes: int, every: timedelta = timedelta(days=1)) -> tuple[UsagePoint, ...]:
    first = NOW - every * (len(n_bytes) - 1)
    return tuple(UsagePoint(at=first + i * every, n_bytes=n) for i, n in enumerate(n_bytes))


def test_growth_is_the_slope_of_the_straight_line_through_the_points() -> None:
    assert growth_per_day(points(0, 10, 20, 30)) == pytest.approx(10)
    assert growth_per_day(points(0, 30, 0, 30)) == pytest.approx(6)  # by hand: sum of products 30, sum of squares 5
    assert growth_per_day(points(30, 20, 10)) == pytest.approx(-10)


@given(st.integers(0, 10**12), st.integers(-(10**9), 10**9), st.lists(st.integers(1, 10_000), min_size=2, max_size=30))
def test_growth_of_points_on_a_line_is_its_slope_however_unevenly_they_lie(start: int, slope: int, minutes: list[int]) -> None:
    at, found = NOW, [UsagePoint(at=NOW, n_bytes=start)]
    for step in [*minutes, 1440]:
        at += timedelta(minutes=step)
        found.append(UsagePoint(at=at, n_bytes=start + round(slope * ((at - NOW) / timedelta(days=1)))))
    assert growth_per_day(found) == pytest.approx(slope, rel=1e-6, abs=2)


def test_growth_is_not_told_from_less_than_a_day() -> None:
    assert growth_per_day(()) is None
    assert growth_per_day(points(5)) is None
    assert growth_per_day(points(0, 10**9, every=timedelta(hours=23))) is None
    assert growth_per_day(points(0, 24, every=timedelta(hours=24))) == pytest.approx(24)


@pytest.mark.parametrize(
    ("free", "growth", "expected"),
    [
        (100, 10.0, NOW + timedelta(days=10)),
        (0, 10.0, NOW),
        (None, 10.0, None),
        (100, None, None),
        (100, 0.0, None),
        (100, -3.0, None),
        (36_500, 10.0, None),  # ten years
    ],
)
def test_a_storage_fills_when_its_free_bytes_are_used_up(
    free: int | None, growth: float | None, expected: datetime | None
) -> None:
    assert fills_at(free, growth, now=NOW) == expected


def test_stored_bytes_add_up_in_the_order_in_which_backups_ended() -> None:
    made = [backup(3, stored_size_bytes=5), backup(1, stored_size_bytes=7), backup(2, stored_size_bytes=1)]
    assert [point.n_bytes for point in cumulative(made)] == [7, 8, 13]


def test_usage_adds_up_what_is_in_that_storage_by_database_and_strategy() -> None:
    made = [
        backup(1, stored_size_bytes=100, created_at=ago(days=3), finished_at=ago(days=3)),
        backup(2, parent=1, stored_size_bytes=10, finished_at=ago(days=2)),
        backup(3, parent=2, stored_size_bytes=20, finished_at=ago(days=1)),
        backup(4, stored_size_bytes=7, database="archive", finished_at=ago(days=1)),
        backup(5, stored_size_bytes=5_000, storage="s3"),
    ]
    found = add_up_usage(StorageReading(name="local", free_bytes=1000), made, now=NOW)
    assert (found.n_backups, found.used_bytes, found.free_bytes, found.measured) == (4, 137, 1000, False)
    shares = [(s.database, s.strategy, s.n_backups, s.stored_bytes, s.growth_bytes_per_day) for s in found.shares]
    assert shares == [
        ("archive", Strategy.FULL, 1, 7, None),
        ("memory", Strategy.FULL, 1, 100, None),
        ("memory", Strategy.INCREMENTAL, 2, 30, pytest.approx(20)),
    ]
    assert sum(share.stored_bytes for share in found.shares) == found.used_bytes
    assert found.points[-1].n_bytes == found.used_bytes
    assert found.growth_bytes_per_day == growth_per_day(cumulative(made[:4]))


def test_measurements_that_span_a_day_are_believed_before_the_catalog_which_forgets_what_expired() -> None:
    kept = [backup(1, stored_size_bytes=50, finished_at=ago(days=9)), backup(2, stored_size_bytes=50, finished_at=ago(hours=1))]
    steady = tuple(UsagePoint(at=ago(days=n), n_bytes=100) for n in (3, 2, 1))
    found = add_up_usage(StorageReading(name="local", free_bytes=GIB, measured=steady), kept, now=NOW)
    assert found.measured and found.growth_bytes_per_day == pytest.approx(0) and found.fills_at is None
    young = add_up_usage(StorageReading(name="local", free_bytes=GIB, measured=steady[-1:]), kept, now=NOW)
    assert not young.measured and young.growth_bytes_per_day is not None and young.growth_bytes_per_day > 0


def test_an_empty_storage_in_trouble_is_reported_as_it_is() -> None:
    trouble = Trouble(message="storage s3: away")
    found = add_up_usage(StorageReading(name="s3", free_bytes=None, trouble=trouble), [], now=NOW)
    assert (found.n_backups, found.used_bytes, found.growth_bytes_per_day, found.fills_at) == (0, 0, None, None)
    assert found.trouble is trouble and found.points == () and found.shares == ()
