"""Say why a backup stays, by the rules alone; what other backups need comes after. Pure: same rows, same reasons.

A backup counts for a rule only when its whole chain is good (`history.chain.usable`) and its time is not ahead of the clock:
a damaged one, or one made while a clock was wrong, never takes the place of another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from continuum_tasks.history.chain import usable
from continuum_tasks.model import Backup, BackupId, BackupStatus

DAY_SECONDS = 86_400
CLOCK_TOLERANCE = timedelta(minutes=10)  # clocks of a host and of a storage that are both right differ by seconds
# What `aggressive` leaves of a policy that asks for more.
LEAST_GRACE_SECONDS = DAY_SECONDS
LEAST = {"hourly": 6, "daily": 3, "weekly": 2, "monthly": 3, "yearly": 1}

Reasons = dict[BackupId, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which backups of one database in one storage stay. Durations in seconds, 0 = no such rule."""

    hourly: int
    daily: int
    weekly: int
    monthly: int
    yearly: int
    keep_within_seconds: int
    min_backups: int
    max_age_seconds: int
    grace_period_seconds: int
    only_verified: bool
    max_expire_per_run: int
    max_roll_forward_per_run: int
    aggressive: bool = False

    @property
    def grace_seconds(self) -> int:
        """The grace that counts: a day at most when aggressive."""
        return min(self.grace_period_seconds, LEAST_GRACE_SECONDS) if self.aggressive else self.grace_period_seconds

    @property
    def counts(self) -> Mapping[str, int]:
        """How many of each period stay: no more than LEAST when aggressive."""
        asked = {name: getattr(self, name) for name in LEAST}
        return {name: min(n, LEAST[name]) for name, n in asked.items()} if self.aggressive else asked


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionInputs:
    """What is known beside the backups: both clocks, why which backups are held, and documents that could not be read.

    `bases` are those that restores within the point-in-time window begin with (`retention.plan.window`).
    """

    now: datetime
    storage_now: datetime
    holds: Mapping[BackupId, str]
    damaged: tuple[str, ...] = ()
    bases: Collection[BackupId] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """One history, newest first: what counts, what of it is proven, and the newest proven one."""

    backups: tuple[Backup, ...]
    counted: tuple[Backup, ...]
    proven: tuple[Backup, ...]

    @property
    def last(self) -> Backup | None:
        return self.proven[0] if self.proven else None


def proven(backup: Backup) -> bool:
    """Tell whether a test restore passed; one that was proven while it was rolled forward waits for its next verdict."""
    pending = backup.rolled_at is not None and backup.verified_at is None and backup.failed_at is None
    return backup.verified or pending


def newness(backup: Backup) -> tuple[datetime, str]:
    """Return the key that orders backups by age; ids decide between two of one second."""
    return (backup.created_at, backup.id)


def stand(backups: Sequence[Backup], sight: RetentionInputs) -> Candidates:
    """Sort a history and find what counts in it."""
    ordered = tuple(sorted(backups, key=newness, reverse=True))
    counted = tuple(b for b in usable(ordered) if not is_ahead(b, sight))
    return Candidates(backups=ordered, counted=counted, proven=tuple(b for b in counted if proven(b)))


def is_ahead(backup: Backup, sight: RetentionInputs) -> bool:
    return backup.created_at > sight.now + CLOCK_TOLERANCE


def is_too_old(backup: Backup, policy: Policy, now: datetime) -> bool:
    return 0 < policy.max_age_seconds <= (now - backup.created_at).total_seconds()


def own_reasons(standing: Candidates, policy: Policy, sight: RetentionInputs) -> dict[BackupId, tuple[str, ...]]:
    """Return, for each backup that a floor or a rule keeps, why. A floor is one that no setting and no flag removes."""
    found: Reasons = {}
    _floors(standing, policy, sight, found)
    _young(standing, policy, sight, found)
    _counts(standing, policy, sight, found)
    _unproven(standing, policy, sight, found)
    _min_backups(standing, policy, found)
    return {backup_id: tuple(reasons) for backup_id, reasons in found.items()}


def _floors(standing: Candidates, policy: Policy, sight: RetentionInputs, found: Reasons) -> None:
    if standing.last is not None:
        _note(found, standing.last, "last verified good chain")
    for backup in standing.backups:
        if backup.id in sight.holds:
            _note(found, backup, f"held: {sight.holds[backup.id]}")
        if is_ahead(backup, sight):
            _note(found, backup, "its time is ahead of the clock")
        if backup.id in sight.bases:
            _note(found, backup, "base of the point-in-time window")
    alarm = _alarm(standing, policy, sight)
    for backup in standing.backups if alarm is not None else ():
        assert alarm is not None
        if backup.id == alarm.id:
            _note(found, backup, "suspect: stays until a newer backup is verified and its grace is over")
        elif newness(backup) < newness(alarm):
            _note(found, backup, f"while {alarm.id} is suspect")


def _alarm(standing: Candidates, policy: Policy, sight: RetentionInputs) -> Backup | None:
    """Return the newest suspect backup that no newer verified one answers, or that is within the whole grace period."""
    for backup in standing.backups:
        if backup.status is BackupStatus.SUSPECT and not is_ahead(backup, sight):
            unanswered = standing.last is None or newness(standing.last) < newness(backup)
            # The whole grace, also when aggressive: this is a floor.
            recent = _is_within(backup, policy.grace_period_seconds, sight.now)
            return backup if unanswered or recent else None
    return None


def _young(standing: Candidates, policy: Policy, sight: RetentionInputs, found: Reasons) -> None:
    for backup in standing.backups:
        if _is_within(backup, policy.grace_seconds, sight.now):
            _note(found, backup, f"within {_possessive(policy.grace_seconds)} grace")
        if _is_within(backup, policy.keep_within_seconds, sight.now):
            _note(found, backup, f"within {_possessive(policy.keep_within_seconds)} keep_within")


def _is_within(backup: Backup, seconds: int, now: datetime) -> bool:
    return seconds > 0 and (now - backup.created_at).total_seconds() < seconds


def _counts(standing: Candidates, policy: Policy, sight: RetentionInputs, found: Reasons) -> None:
    """Let the newest backup stand for its hour, day, week, month, year; periods without one are not counted."""
    candidates = standing.proven if policy.only_verified else standing.counted
    candidates = tuple(b for b in candidates if not is_too_old(b, policy, sight.now))
    for name, n in policy.counts.items():
        seen: set[tuple[int, ...]] = set()
        for backup in candidates:
            period = _PERIODS[name](backup.created_at.astimezone(UTC))
            if period not in seen and len(seen) < n:
                seen.add(period)
                _note(found, backup, f"{name} {len(seen)} of {n}")


def _unproven(standing: Candidates, policy: Policy, sight: RetentionInputs, found: Reasons) -> None:
    """Keep what came after the last verified backup: nothing proven can take its place yet."""
    if not policy.only_verified:
        return
    for backup in standing.counted:
        if is_too_old(backup, policy, sight.now):
            continue
        if standing.last is None:
            _note(found, backup, "nothing is verified yet")
        elif newness(standing.last) < newness(backup):
            _note(found, backup, "newer than the last verified backup")


def _min_backups(standing: Candidates, policy: Policy, found: Reasons) -> None:
    counted = {b.id for b in standing.counted}
    best_first = [*standing.counted, *(b for b in standing.backups if b.id not in counted)]
    for number, backup in enumerate(best_first[: policy.min_backups], 1):
        _note(found, backup, f"one of the fewest: {number} of {policy.min_backups}")


def _note(found: Reasons, backup: Backup, reason: str) -> None:
    found.setdefault(backup.id, []).append(reason)


_PERIODS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda at: (at.year, at.month, at.day, at.hour),
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: tuple(at.isocalendar())[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: (at.year,),
}


def _possessive(seconds: int) -> str:
    """Write a duration as an owner: `7 days'`, `1 hour's`."""
    unit, n_seconds = next((u, n) for u, n in (("day", DAY_SECONDS), ("hour", 3600), ("second", 1)) if seconds % n == 0)
    n = seconds // n_seconds
    return f"1 {unit}'s" if n == 1 else f"{n} {unit}s'"
