"""Decide what storages hold, how fast that grows and when a disk is full, from the catalog's rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from continuum_tasks.findings import Trouble
from continuum_tasks.model import Backup, Strategy

DAY_SECONDS = 86_400
MIN_HISTORY = timedelta(days=1)  # growth per day is not told from less than a day
HORIZON_DAYS = 3_650.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePoint:
    """How many bytes there were at one instant."""

    at: datetime
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one strategy's backups of one database take in one storage. Growth None = too little history to tell."""

    storage: str
    database: str
    strategy: Strategy
    n_backups: int
    stored_bytes: int
    growth_bytes_per_day: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReading:
    """One storage as it was looked at: free bytes (None = no limit shows, or `trouble`), and what was measured before."""

    name: str
    free_bytes: int | None
    measured: tuple[UsagePoint, ...] = ()
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageUsage:
    """What one storage holds. `fills_at` None = not within ten years, or unknown; `points` is its history, oldest first.

    Backups that expired leave the catalog, so growth comes from measurements (`measured`) once they span a day.
    """

    storage: str
    n_backups: int
    used_bytes: int
    free_bytes: int | None
    growth_bytes_per_day: float | None
    fills_at: datetime | None
    measured: bool
    points: tuple[UsagePoint, ...]
    shares: tuple[Share, ...]
    trouble: Trouble | None


def add_up_usage(facts: StorageReading, backups: Sequence[Backup], *, now: datetime) -> StorageUsage:
    """Add up one storage's backups, given all that are catalogued in any order."""
    here = [backup for backup in backups if backup.storage == facts.name]
    used = sum(backup.stored_size_bytes for backup in here)
    measured = _span(facts.measured) >= MIN_HISTORY
    points = (*facts.measured, UsagePoint(at=now, n_bytes=used)) if measured else cumulative(here)
    growth = growth_per_day(points)
    return StorageUsage(
        storage=facts.name,
        n_backups=len(here),
        used_bytes=used,
        free_bytes=facts.free_bytes,
        growth_bytes_per_day=growth,
        fills_at=fills_at(facts.free_bytes, growth, now=now),
        measured=measured,
        points=points,
        shares=_shares(here),
        trouble=facts.trouble,
    )


def cumulative(backups: Iterable[Backup]) -> tuple[UsagePoint, ...]:
    """Return how stored bytes added up, backup by backup, oldest first."""
    total, points = 0, list[UsagePoint]()
    for backup in sorted(backups, key=lambda b: b.finished_at):
        total += backup.stored_size_bytes
        points.append(UsagePoint(at=backup.finished_at, n_bytes=total))
    return tuple(points)


def growth_per_day(points: Sequence[UsagePoint]) -> float | None:
    """Return the least-squares slope in bytes per day, None when the points span less than a day."""
    if _span(points) < MIN_HISTORY:
        return None
    days = [(point.at - points[0].at).total_seconds() / DAY_SECONDS for point in points]
    mean_day, mean_bytes = sum(days) / len(days), sum(point.n_bytes for point in points) / len(points)
    spread = sum((day - mean_day) ** 2 for day in days)
    return sum((day - mean_day) * (p.n_bytes - mean_bytes) for day, p in zip(days, points, strict=True)) / spread


def fills_at(free_bytes: int | None, growth_bytes_per_day: float | None, *, now: datetime) -> datetime | None:
    """Return when the free space is gone at this growth, None when that is unknown or more than ten years away."""
    if free_bytes is None or growth_bytes_per_day is None or growth_bytes_per_day * HORIZON_DAYS <= free_bytes:
        return None
    return now + timedelta(days=free_bytes / growth_bytes_per_day)


def _shares(backups: Sequence[Backup]) -> tuple[Share, ...]:
    def place(backup: Backup) -> tuple[str, int]:
        return backup.database, list(Strategy).index(backup.strategy)

    grouped = [list(group) for _, group in groupby(sorted(backups, key=place), key=place)]
    return tuple(
        Share(
            storage=group[0].storage,
            database=group[0].database,
            strategy=group[0].strategy,
            n_backups=len(group),
            stored_bytes=sum(backup.stored_size_bytes for backup in group),
            growth_bytes_per_day=growth_per_day(cumulative(group)),
        )
        for group in grouped
    )


def _span(points: Sequence[UsagePoint]) -> timedelta:
    return points[-1].at - points[0].at if points else timedelta(0)
