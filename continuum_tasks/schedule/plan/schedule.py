"""Decide what is due, from what was done: a missed beat catches up once and a double beat finds nothing to do. Pure.

The maintenance window is Sunday 01:00 to 03:00 UTC. What is wanted weekly or more rarely is done in the last window
before it would be late, so it settles there; what missed its window is done once its interval is over, whenever that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from continuum_tasks.history.chain import usable
from continuum_tasks.host.job_kinds import CREATE_BACKUP, RUN_DRILL, TEST_RESTORE, VERIFY_BACKUP, JobKind
from continuum_tasks.model import Backup, BackupSchedule, BackupStatus, DrillRecord, Rehearsal, Strategy
from continuum_tasks.verify.plan.sampling import newest_of_each_chain

WEEK = timedelta(days=7)
AGAIN_AFTER = timedelta(days=1)  # how long after a test restore or drill that failed another one is tried
HALF_A_LOOK_SECONDS = 30  # the timetable looks each minute
WINDOW_OPENS = time(1, tzinfo=UTC)
WINDOW = timedelta(hours=2)
_SUNDAY = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was done for one database in one storage: its backups newest first, and its test restores and drills.

    `unchanged`: it is known that nothing was committed since the newest backup was begun, so an increment would be empty.
    """

    backups: Sequence[Backup]
    rehearsals: Sequence[DrillRecord] = ()
    unchanged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Work that should be queued now: a backup of that strategy, or something done to `backup`.

    A drill has no backup yet: picking one takes chance. `each_link`: also the stored bytes of every link are read.
    """

    kind: JobKind
    reason: str
    strategy: Strategy | None = None
    backup: Backup | None = None
    each_link: bool = False


def due(history: History, rhythm: BackupSchedule, *, now: datetime) -> tuple[Due, ...]:
    """Return what one database owes at `now`: at most one of each kind.

    What is stamped more than an interval ahead (the clock jumped back) does not count as done: it would stop the work, or
    repeat it at every look, until the clock gets there.
    """
    made = _backup_due(history, rhythm, now=now)
    verified = _weekly_verify_due(history.backups, rhythm, now=now) or _verify_due(history.backups, rhythm, now=now)
    if in_window(now) and any(one.strategy is Strategy.FULL for one in made):
        return (*made, *verified)  # the window's test restore is of the full that is about to be made
    return (*made, *verified, *_rehearsals_due(history, rhythm, now=now))


def window_before(now: datetime) -> datetime:
    """Return when the maintenance window that is open, or was open last, opened."""
    at = now.astimezone(UTC)
    sunday = at.date() - timedelta(days=(at.weekday() - _SUNDAY) % 7)
    opened = datetime.combine(sunday, WINDOW_OPENS)
    return opened if opened <= at else opened - WEEK


def in_window(now: datetime) -> bool:
    """Tell whether the maintenance window is open."""
    return now - window_before(now) < WINDOW


def _backup_due(history: History, rhythm: BackupSchedule, *, now: datetime) -> tuple[Due, ...]:
    backups = history.backups
    fulls = [b.created_at for b in backups if b.strategy is Strategy.FULL]
    if _is_due(fulls, rhythm.full_every_seconds, now=now):
        last = _last(fulls, rhythm.full_every_seconds, now=now)
        reason = "no full yet" if last is None else f"last full at {last:%Y-%m-%d %H:%M:%S} UTC"
        return (Due(kind=CREATE_BACKUP, strategy=Strategy.FULL, reason=reason),)
    if history.unchanged:
        return ()
    made = [b.created_at for b in backups]
    if _is_due(made, _soon(rhythm.incremental_every_seconds), now=now):
        last = _last(made, rhythm.incremental_every_seconds, now=now)
        reason = "no backup yet" if last is None else f"last backup at {last:%H:%M:%S} UTC"
        return (Due(kind=CREATE_BACKUP, strategy=Strategy.INCREMENTAL, reason=reason),)
    return ()


def _soon(every_seconds: int) -> int:
    """Return when an increment is due, to the nearest look.

    A snapshot is taken moments after the look that asked for it, so at the look one interval later it is not quite that
    old. Waiting for the next one would make 4 minutes 5, which is the whole target.
    """
    return max(every_seconds - HALF_A_LOOK_SECONDS, 3 * every_seconds // 4, min(1, every_seconds))


def _weekly_verify_due(backups: Sequence[Backup], rhythm: BackupSchedule, *, now: datetime) -> tuple[Due, ...]:
    """Owe every chain that grew in the week before the window one look: its newest backup then, and all bytes below it."""
    if not rhythm.verify_every_seconds:
        return ()
    opened = window_before(now)
    there = [b for b in backups if b.created_at < opened and b.status is BackupStatus.COMPLETED]
    for backup in newest_of_each_chain(there):
        looked_at = [at for at in (backup.verified_at, backup.failed_at) if at is not None]
        if backup.created_at >= opened - WEEK and max(looked_at, default=opened - WEEK) < opened:
            reason = f"weekly, window of {opened:%Y-%m-%d}"
            return (Due(kind=VERIFY_BACKUP, backup=backup, reason=reason, each_link=True),)
    return ()


def _verify_due(backups: Sequence[Backup], rhythm: BackupSchedule, *, now: datetime) -> tuple[Due, ...]:
    good = [b for b in backups if b.status is BackupStatus.COMPLETED]
    looked_at = [at for b in good for at in (b.verified_at, b.failed_at) if at is not None]
    if not good or not _is_due(looked_at, rhythm.verify_every_seconds, now=now):
        return ()
    last = _last(looked_at, rhythm.verify_every_seconds, now=now)
    reason = "nothing verified yet" if last is None else f"last verified {last:%Y-%m-%d %H:%M} UTC"
    return (Due(kind=VERIFY_BACKUP, backup=good[0], reason=reason),)


def _rehearsals_due(history: History, rhythm: BackupSchedule, *, now: datetime) -> tuple[Due, ...]:
    """Owe a drill, or a test restore of the newest usable backup; a drill counts as one too.

    Only those that passed count; after one that failed another is owed a day later.
    """
    points = usable(history.backups)
    if not points:
        return ()
    # A new database is not late with what it never did. Records outlive the backups that retention takes.
    begun = min([history.backups[-1].created_at, *(record.at for record in history.rehearsals)])
    if any(not record.passed and abs(now - record.at) < AGAIN_AFTER for record in history.rehearsals):
        return ()
    passed = [record for record in history.rehearsals if record.passed]
    drills = [record.at for record in passed if record.kind is Rehearsal.DRILL]
    if _is_due(drills or [begun], _drill_every(history, rhythm), now=now):
        return (Due(kind=RUN_DRILL, reason=_since("drill", drills)),)
    restores = [record.at for record in passed]
    if _is_due(restores or [begun], rhythm.test_restore_every_seconds, now=now):
        return (Due(kind=TEST_RESTORE, backup=points[0], reason=_since("test restore", restores)),)
    return ()


def _drill_every(history: History, rhythm: BackupSchedule) -> int:
    """Return how often a drill is owed: the first within a week where no test restore leaves a record of how old this is."""
    recorded = bool(history.rehearsals) or rhythm.test_restore_every_seconds > 0
    return rhythm.drill_every_seconds if recorded else min(rhythm.drill_every_seconds, int(WEEK.total_seconds()))


def _since(what: str, done_at: Sequence[datetime]) -> str:
    return f"last {what} at {max(done_at):%Y-%m-%d %H:%M} UTC" if done_at else f"no {what} yet"


def _is_due(done_at: Sequence[datetime], every_seconds: int, *, now: datetime) -> bool:
    last = _last(done_at, every_seconds, now=now)
    if every_seconds <= 0 or last is None:
        return every_seconds > 0
    every = timedelta(seconds=every_seconds)
    if now - last >= every:
        return True
    opened = window_before(now)
    return every >= WEEK and in_window(now) and last + every < opened + WEEK


def _last(done_at: Sequence[datetime], every_seconds: int, *, now: datetime) -> datetime | None:
    latest = now + timedelta(seconds=every_seconds)
    return max((at for at in done_at if at <= latest), default=None)
