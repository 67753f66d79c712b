"""Decide which backups stay and which expire. Pure: the same rows, policy and clocks give the same plan.

The plan is a sequence that may be cut anywhere: first `expire` of what nothing needs, dependents before what they need;
then, one after the other, each `roll_forward` and the links it frees. After every step all that is left is usable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from continuum_tasks.model import Backup, BackupId
from continuum_tasks.retention.plan.keep_reasons import (
    CLOCK_TOLERANCE,
    Candidates,
    Policy,
    RetentionInputs,
    is_too_old,
    newness,
    own_reasons,
    stand,
)
from continuum_tasks.retention.plan.roll_forward import RollForwardPlan, roll_forwards

DAY_BEGINS = timedelta(hours=1)  # the runbook's window opens at 01:00 UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A backup that stays, with every reason."""

    backup: Backup
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A backup that goes, and why."""

    backup: Backup
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """What to do now. `expire` is free to go at once; what each of `roll_forward` frees goes after it.

    `deferred` would go too, but a run expires and rolls only so many. `stopped` says why nothing expires at all.
    """

    keep: tuple[Kept, ...]
    expire: tuple[Expired, ...]
    roll_forward: tuple[RollForwardPlan, ...]
    deferred: tuple[Expired, ...]
    stopped: str = ""

    @property
    def n_expired(self) -> int:
        return len(self.expire) + sum(len(rolled.frees) for rolled in self.roll_forward)


def plan_retention(backups: Sequence[Backup], policy: Policy, sight: RetentionInputs) -> RetentionPlan:
    """Plan the retention of one database in one storage. Backups of several are a RuntimeError."""
    if len({(b.database, b.storage) for b in backups}) > 1:
        raise RuntimeError("retention is planned for one database in one storage at a time")
    standing = stand(backups, sight)
    reasons = own_reasons(standing, policy, sight)
    needed = _needed(standing, reasons)
    stopped = _stopped(sight)
    if stopped:
        everything = {b.id: reasons.get(b.id) or needed.get(b.id) or (f"expiry is stopped: {stopped}",) for b in backups}
        return RetentionPlan(keep=_kept(standing, everything), expire=(), roll_forward=(), deferred=(), stopped=stopped)
    free = _expired(standing, reasons | needed, policy, sight)
    rolls: tuple[RollForwardPlan, ...] = ()
    if policy.max_roll_forward_per_run:
        rolls = roll_forwards(standing, reasons, reasons | needed, policy=policy, now=sight.now)
    freed = {link.id for rolled in rolls for link in rolled.frees}
    stays = {backup_id: why for backup_id, why in (needed | reasons).items() if backup_id not in freed}
    return _capped(free, rolls, _kept(standing, stays), policy)


def slot(now: datetime) -> str:
    """Name the day whose run is due at `now`: `20261123` from 01:00 UTC on until 01:00 of the next day."""
    return f"{now - DAY_BEGINS:%Y%m%d}"


def _needed(standing: Candidates, wanted: Collection[BackupId]) -> dict[BackupId, tuple[str, ...]]:
    """Return what the wanted ones need to be restored and no rule keeps by itself, each with the newest that needs it."""
    by_id = {b.id: b for b in standing.backups}
    found: dict[BackupId, tuple[str, ...]] = {}
    seen: set[BackupId] = set()
    for backup in standing.backups:
        at = backup if backup.id in wanted else None
        while at is not None and at.id not in seen:
            seen.add(at.id)
            if at.id not in wanted:
                found[at.id] = (f"{'base' if at.is_snapshot else 'link'} of {backup.id}",)
            at = None if at.parent_id is None else by_id.get(at.parent_id)
    return found


def _stopped(sight: RetentionInputs) -> str:
    off = sight.now - sight.storage_now
    if abs(off) > CLOCK_TOLERANCE:
        way = "ahead of" if off > timedelta(0) else "behind"
        return f"this host's clock is {abs(off)} {way} the storage's: set it right"
    if sight.damaged:
        more = f", and {len(sight.damaged) - 1} more" if len(sight.damaged) > 1 else ""
        return f"a document cannot be read, so what needs what is not known: {sight.damaged[0]}{more}"
    return ""


def _dependents_first(standing: Candidates, stays: Collection[BackupId]) -> list[Backup]:
    """Return what does not stay, oldest chains first, in each all that builds on a backup before it."""
    going = {b.id: b for b in reversed(standing.backups) if b.id not in stays}
    children: dict[BackupId, list[Backup]] = {}
    for backup in going.values():
        if backup.parent_id in going:
            children.setdefault(backup.parent_id, []).append(backup)
    roots = [b for b in going.values() if b.parent_id not in going]
    order: list[Backup] = []
    seen: set[BackupId] = set()
    for root in [*roots, *going.values()]:  # a loop somebody forged has no root: any of it will do
        if root.id not in seen:
            order += reversed(_parents_first(root, children, seen))
    return order


def _parents_first(root: Backup, children: dict[BackupId, list[Backup]], seen: set[BackupId]) -> list[Backup]:
    found, waiting = [], [root]
    while waiting:
        backup = waiting.pop()
        if backup.id not in seen:
            seen.add(backup.id)
            found.append(backup)
            waiting += sorted(children.get(backup.id, ()), key=newness, reverse=True)
    return found


def _expired(standing: Candidates, stays: Collection[BackupId], policy: Policy, sight: RetentionInputs) -> tuple[Expired, ...]:
    counted = {b.id for b in standing.counted}
    verified = {b.id for b in standing.proven}

    def why(backup: Backup) -> str:
        if is_too_old(backup, policy, sight.now):
            return "older than max_age"
        if backup.id not in counted:
            return "not usable, and its grace is over"
        if policy.only_verified and backup.id not in verified:
            return "not verified, and newer ones are"
        return "no rule keeps it"

    return tuple(Expired(backup=b, reason=why(b)) for b in _dependents_first(standing, stays))


def _kept(standing: Candidates, why: dict[BackupId, tuple[str, ...]]) -> tuple[Kept, ...]:
    return tuple(Kept(backup=b, reasons=why[b.id]) for b in standing.backups if b.id in why)


def _capped(
    free: tuple[Expired, ...], rolls: tuple[RollForwardPlan, ...], keep: tuple[Kept, ...], policy: Policy
) -> RetentionPlan:
    """Cut the sequence where this run has done enough; the rest is deferred."""
    budget = policy.max_expire_per_run - len(free)
    taken: list[RollForwardPlan] = []
    deferred = list(free[policy.max_expire_per_run :])
    for rolled in rolls:
        n_now = min(len(rolled.frees), budget) if len(taken) < policy.max_roll_forward_per_run else 0
        if n_now <= 0:
            budget = n_now = 0  # nothing after this one either: it may rely on it
        else:
            taken.append(_only(rolled, n_now))
        budget -= n_now
        reason = f"needed until {rolled.backup.id} is rolled forward"
        deferred += [Expired(backup=link, reason=reason) for link in rolled.frees[n_now:]]
    return RetentionPlan(
        keep=keep, expire=free[: policy.max_expire_per_run], roll_forward=tuple(taken), deferred=tuple(deferred)
    )


def _only(rolled: RollForwardPlan, n: int) -> RollForwardPlan:
    return RollForwardPlan(
        backup=rolled.backup,
        frees=rolled.frees[:n],
        layer_bytes=rolled.layer_bytes,
        saves_bytes=rolled.saves_bytes,
        reason=rolled.reason,
    )
