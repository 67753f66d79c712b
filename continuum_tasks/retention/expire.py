"""Apply retention to one database in one storage: plan from what the storage says now, expire, roll forward, sweep.

Works under the database's lock, so no backup is being made that could build on what goes. The order is the plan's, which
may be cut anywhere; a backup that goes loses its manifest first. What a killed run leaves is swept by a later one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from continuum_tasks import failpoints
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.config import RetentionSettings
from continuum_tasks.errors import IntegrityError, NewerFormat
from continuum_tasks.history.chain import made_on
from continuum_tasks.host import audit_trail, measure, reindex
from continuum_tasks.host.audit_trail import AuditEntry
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, Hold, Progress
from continuum_tasks.repository.lock import Held, hold_lock
from continuum_tasks.repository.repository import Repository
from continuum_tasks.retention import sweep, window
from continuum_tasks.retention.plan.keep_reasons import Policy, RetentionInputs
from continuum_tasks.retention.plan.retention import RetentionPlan, plan_retention
from continuum_tasks.retention.roll_forward import roll_backup_forward
from continuum_tasks.units import microseconds


class KeepDecision(StrEnum):
    KEEP = "keep"
    EXPIRE = "expire"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRequest:
    """Which database, under which policy, and who asked; every commit of the last `pitr_window_seconds` stays restorable."""

    database: str
    policy: Policy
    by: str
    pitr_window_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryDecision:
    """What becomes of one backup, and why."""

    backup_id: BackupId
    verdict: KeepDecision
    reasons: tuple[str, ...]
    created_at: datetime
    stored_size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRollForward:
    """A backup that gets a snapshot layer; sizes are estimates until it is done."""

    backup_id: BackupId
    reason: str
    layer_bytes: int
    saves_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done, or with `dry_run` what would be. `stopped` says why nothing expired.

    `decisions` newest backup first. Orphans are objects older than a day that belong to no backup. `freed_bytes` counts
    what expired and was swept, less what roll-forwards wrote; in a dry run it is an estimate. `segments` of captured commits go
    that the point-in-time window does not need.
    """

    database: str
    storage: str
    dry_run: bool
    stopped: str
    decisions: tuple[ExpiryDecision, ...]
    roll_forward: tuple[PlannedRollForward, ...]
    n_orphans: int
    orphan_bytes: int
    freed_bytes: int
    segments: window.Dropped = field(default_factory=window.Dropped)

    def of(self, verdict: KeepDecision) -> tuple[ExpiryDecision, ...]:
        return tuple(decision for decision in self.decisions if decision.verdict is verdict)


def policy_of(settings: RetentionSettings, *, aggressive: bool) -> Policy:
    """Return the policy that retention.conf asks for."""
    return Policy(
        hourly=settings.hourly,
        daily=settings.daily,
        weekly=settings.weekly,
        monthly=settings.monthly,
        yearly=settings.yearly,
        keep_within_seconds=settings.keep_within_seconds,
        min_backups=settings.min_backups,
        max_age_seconds=settings.max_age_seconds,
        grace_period_seconds=settings.grace_period_seconds,
        only_verified=settings.only_verified,
        max_expire_per_run=settings.max_expire_per_run,
        max_roll_forward_per_run=settings.max_roll_forward_per_run,
        aggressive=aggressive,
    )


def preview_retention(
    request: RetentionRequest, *, repository: Repository, site: HostContext
) -> Generator[Progress, None, Applied]:
    """Say what `apply_policy` would do now; takes no lock and changes nothing. Raises StorageError."""
    yield Progress(phase="plan")
    looked = _look(request, repository=repository, site=site)
    orphans = () if looked.plan.stopped else sweep.find_orphans(request.database, repository, site=site, now=looked.storage_now)
    rolled = looked.plan.roll_forward
    freed = sum(d.stored_size_bytes for d in _decisions(looked.plan) if d.verdict is KeepDecision.EXPIRE)
    freed += sum(o.size_bytes for o in orphans)
    dropped = window.would_drop(looked.window, _staying(looked)) if not looked.plan.stopped else window.Dropped()
    freed += dropped.freed_bytes
    freed -= sum(r.layer_bytes - r.backup.stored_size_bytes for r in rolled)
    return replace(_applied(request, looked, dry_run=True, orphans=orphans, freed_bytes=freed), segments=dropped)


def apply_policy(
    request: RetentionRequest, *, repository: Repository, site: HostContext, fan: Fan, check_lease: Callable[[], None]
) -> Generator[Progress, None, Applied]:
    """Apply retention; yields progress in backups expired. `check_lease` raises when this run lost its job.

    Raises DatabaseLocked, StorageError, StaleClaim, or what rolling a backup forward raises; what was done until then is
    done, and every backup that is listed is restorable.
    """
    with hold_lock(request.database, repository.storage, site.contender()) as lock:
        failpoints.reach("expire.locked")
        yield Progress(phase="plan")
        looked = _look(request, repository=repository, site=site)
        failpoints.reach("expire.planned")
        work = _Work(request=request, repository=repository, site=site, fan=fan, check_lease=check_lease, lock=lock)
        freed = yield from _follow(looked, work)
        dropped = _drop_segments(looked, work)
        freed += dropped.freed_bytes
        yield Progress(phase="sweep")
        orphans: tuple[sweep.Orphan, ...] = ()
        if not looked.plan.stopped:
            orphans = sweep.find_orphans(request.database, repository, site=site, now=looked.storage_now)
            work.may_commit()
            sweep.remove_orphans(orphans, repository)
        failpoints.reach("expire.swept")
        freed += sum(orphan.size_bytes for orphan in orphans)
        done = replace(_applied(request, looked, dry_run=False, orphans=orphans, freed_bytes=freed), segments=dropped)
        _record(done, work)
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    storage: str
    plan: RetentionPlan
    backups: tuple[Backup, ...]
    holds: frozenset[BackupId]
    storage_now: datetime
    window: window.StoredWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    request: RetentionRequest
    repository: Repository
    site: HostContext
    fan: Fan
    check_lease: Callable[[], None]
    lock: Held

    def may_commit(self) -> None:
        self.check_lease()
        self.lock.check()


def _look(request: RetentionRequest, *, repository: Repository, site: HostContext) -> _Looked:
    """Read the storage itself, not this host's index of it: other hosts verify, hold and back up too.

    Only this host's history is planned: another host may call its database the same, and what it keeps is its own matter.
    """
    found = reindex.reindex_storage(repository, site=site)
    backups = tuple(b for b in made_on(site.host, found.backups) if b.database == request.database)
    holds = site.catalog.holds(repository.name)
    storage_now = sweep.clock_of(repository.storage, nonce=site.random_bytes(6).hex())
    now = site.clock.now()
    begins = min(now, storage_now) - timedelta(seconds=request.pitr_window_seconds)
    span = window.WindowSpan(
        database=request.database,
        before_us=microseconds(begins),
        with_holes=request.policy.grace_seconds < request.pitr_window_seconds,
    )
    commits = window.read_window(span, repository)
    sight = RetentionInputs(
        now=now,
        storage_now=storage_now,
        bases=window.window_bases(commits, backups),
        holds={backup_id: hold.reason for backup_id, hold in holds.items()},
        damaged=(*(text for text in found.damaged if f"/{request.database}/" in text), *commits.damaged),
    )
    return _Looked(
        storage=repository.name,
        plan=plan_retention(backups, request.policy, sight),
        backups=backups,
        holds=frozenset(holds),
        storage_now=storage_now,
        window=commits,
    )


def _staying(looked: _Looked) -> tuple[Backup, ...]:
    """Return the backups that the plan leaves."""
    goes = {e.backup.id for e in looked.plan.expire} | {b.id for r in looked.plan.roll_forward for b in r.frees}
    return tuple(b for b in looked.backups if b.id not in goes)


def _drop_segments(looked: _Looked, work: _Work) -> window.Dropped:
    """Delete the segments that the window does not need, by the backups that are left now."""
    if looked.plan.stopped:
        return window.Dropped()
    left = work.site.catalog.backups(storage=looked.storage, database=work.request.database)
    dropped = window.drop_segments(looked.window, left, repository=work.repository, site=work.site, may_delete=work.may_commit)
    if dropped.n_segments or dropped.n_timelines:
        detail = f"{dropped.n_segments} segments, {dropped.n_timelines} whole timelines"
        _audit(work, "expire-segments", f"{work.request.database}@{looked.storage}", detail)
    return dropped


def _follow(looked: _Looked, work: _Work) -> Generator[Progress, None, int]:
    """Do what the plan says, in its order; returns the bytes freed."""
    freed, n_done = 0, 0
    total = looked.plan.n_expired
    for expired in looked.plan.expire:
        freed += _expire(expired.backup, expired.reason, looked, work)
        n_done += 1
        yield Progress(phase="expire", detail=f"{n_done}/{total} backups")
    for rolled in looked.plan.roll_forward:
        done = yield from roll_backup_forward(
            rolled.backup.id, repository=work.repository, site=work.site, fan=work.fan, may_commit=work.may_commit
        )
        _audit(work, "roll-forward", rolled.backup.id, rolled.reason)
        freed += done.freed_bytes - done.written_bytes
        for link in rolled.frees:
            freed += _expire(link, f"freed by {rolled.backup.id}", looked, work)
            n_done += 1
            yield Progress(phase="expire", detail=f"{n_done}/{total} backups")
    return freed


def _expire(backup: Backup, reason: str, looked: _Looked, work: _Work) -> int:
    """Expire one backup unless somebody held it, or what builds on it, since the plan was made; returns bytes freed."""
    work.may_commit()
    if backup.id in _spared(looked, work.repository):
        _audit(work, "expire", backup.id, "spared: it was held meanwhile")
        return 0
    failpoints.reach("expire.before_backup")
    n_bytes = work.repository.delete_backup(backup)
    failpoints.reach("expire.backup_deleted")
    work.site.catalog.forget(backup.storage, backup.id)
    _audit(work, "expire", backup.id, reason)
    return n_bytes


def _spared(looked: _Looked, repository: Repository) -> set[BackupId]:
    """Return what was held since the plan was made, and all it needs. Raises IntegrityError for a hold that is damaged."""
    parents = {b.id: b.parent_id for b in looked.backups}
    spared: set[BackupId] = set()
    for backup_id in _held(repository.holds()) - looked.holds:
        at: BackupId | None = backup_id
        while at is not None and at not in spared:
            spared.add(at)
            at = parents.get(at)
    return spared


def _held(records: Iterable[tuple[str, Hold | IntegrityError]]) -> set[BackupId]:
    held = set()
    for key, record in records:
        if isinstance(record, NewerFormat):  # it holds what its name says, whatever else it says
            with contextlib.suppress(ValueError):
                held.add(BackupId(key.rpartition("/")[2].removesuffix(".json")))
        elif isinstance(record, IntegrityError):
            raise record
        else:
            held.add(record.backup_id)
    return held


def _applied(
    request: RetentionRequest,
    looked: _Looked,
    *,
    dry_run: bool,
    orphans: tuple[sweep.Orphan, ...],
    freed_bytes: int,
) -> Applied:
    rolls = (
        PlannedRollForward(backup_id=r.backup.id, reason=r.reason, layer_bytes=r.layer_bytes, saves_bytes=r.saves_bytes)
        for r in looked.plan.roll_forward
    )
    return Applied(
        database=request.database,
        storage=looked.storage,
        dry_run=dry_run,
        stopped=looked.plan.stopped,
        decisions=_decisions(looked.plan),
        roll_forward=tuple(rolls),
        n_orphans=len(orphans),
        orphan_bytes=sum(orphan.size_bytes for orphan in orphans),
        freed_bytes=freed_bytes,
    )


def _decisions(planned: RetentionPlan) -> tuple[ExpiryDecision, ...]:
    found = [_decision(kept.backup, KeepDecision.KEEP, kept.reasons) for kept in planned.keep]
    found += [_decision(e.backup, KeepDecision.EXPIRE, (e.reason,)) for e in planned.expire]
    found += [_decision(e.backup, KeepDecision.DEFERRED, (e.reason,)) for e in planned.deferred]
    for rolled in planned.roll_forward:
        reason = (f"nothing needs it once {rolled.backup.id} is rolled forward",)
        found += [_decision(link, KeepDecision.EXPIRE, reason) for link in rolled.frees]
    return tuple(sorted(found, key=lambda decision: (decision.created_at, decision.backup_id), reverse=True))


def _decision(backup: Backup, verdict: KeepDecision, reasons: tuple[str, ...]) -> ExpiryDecision:
    return ExpiryDecision(
        backup_id=backup.id,
        verdict=verdict,
        reasons=reasons,
        created_at=backup.created_at,
        stored_size_bytes=backup.stored_size_bytes,
    )


def _record(done: Applied, work: _Work) -> None:
    backups = work.site.catalog.backups(storage=done.storage)
    used_bytes = sum(backup.stored_size_bytes for backup in backups)
    measure.measure_storage(done.storage, used_bytes=used_bytes, free_bytes=None, site=work.site)
    counts = ", ".join(f"{len(done.of(verdict))} {verdict}" for verdict in KeepDecision)
    detail = f"stopped: {done.stopped}" if done.stopped else f"{counts}; {done.n_orphans} orphans swept"
    _audit(work, "apply-retention", f"{done.database}@{done.storage}", detail, outcome="stopped" if done.stopped else "done")


def _audit(work: _Work, action: str, subject: str, detail: str, *, outcome: str = "done") -> None:
    deed = AuditEntry(action=action, subject=subject, by=work.request.by, detail=detail)
    audit_trail.note_entry(deed, site=work.site, outcome=outcome)
