"""Decide what is due, from what was done: a missed beat catches up once and a double beat finds nothing to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from continuum_tasks.model import Backup, Status, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often one database wants what, in seconds; 0 = never."""

    full_every_seconds: int
    incremental_every_seconds: int
    verify_every_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Work that should be queued now: a backup of this strategy, or (strategy None) a verification of `verify`."""

    strategy: Strategy | None
    verify: Backup | None
    reason: str


def due(backups: Sequence[Backup], rhythm: Rhythm, *, now: datetime) -> tuple[Due, ...]:
    """Return what one database owes at `now`, given its backups newest first: at most one backup and one verification.

    What is stamped more than an interval ahead (the clock jumped back) does not count as done: it would stop the work, or
    repeat it at every look, until the clock gets there.
    """
    return (*_backup_due(backups, rhythm, now=now), *_verify_due(backups, rhythm, now=now))


def _backup_due(backups: Sequence[Backup], rhythm: Rhythm, *, now: datetime) -> tuple[Due, ...]:
    fulls = [b.created_at for b in backups if b.strategy is Strategy.FULL]
    if _is_due(fulls, rhythm.full_every_seconds, now=now):
        last = _last(fulls, rhythm.full_every_seconds, now=now)
        reason = "no full yet" if last is None else f"last full at {last:%Y-%m-%d %H:%M:%S} UTC"
        return (Due(strategy=Strategy.FULL, verify=None, reason=reason),)
    made = [b.created_at for b in backups]
    if _is_due(made, rhythm.incremental_every_seconds, now=now):
        last = _last(made, rhythm.incremental_every_seconds, now=now)
        reason = "no backup yet" if last is None else f"last backup at {last:%H:%M:%S} UTC"
        return (Due(strategy=Strategy.INCREMENTAL, verify=None, reason=reason),)
    return ()


def _verify_due(backups: Sequence[Backup], rhythm: Rhythm, *, now: datetime) -> tuple[Due, ...]:
    good = [b for b in backups if b.status is Status.COMPLETED]
    looked_at = [at for b in good for at in (b.verified_at, b.failed_at) if at is not None]
    if not good or not _is_due(looked_at, rhythm.verify_every_seconds, now=now):
        return ()
    last = _last(looked_at, rhythm.verify_every_seconds, now=now)
    reason = "nothing verified yet" if last is None else f"last verified {last:%Y-%m-%d %H:%M} UTC"
    return (Due(strategy=None, verify=good[0], reason=reason),)


def _is_due(done_at: Sequence[datetime], every_seconds: int, *, now: datetime) -> bool:
    last = _last(done_at, every_seconds, now=now)
    return every_seconds > 0 and (last is None or now - last >= timedelta(seconds=every_seconds))


def _last(done_at: Sequence[datetime], every_seconds: int, *, now: datetime) -> datetime | None:
    latest = now + timedelta(seconds=every_seconds)
    return max((at for at in done_at if at <= latest), default=None)
