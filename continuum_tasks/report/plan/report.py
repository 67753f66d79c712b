"""Decide what a report on backups says: a host's rows in, one value out. Pure: same rows, same report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from continuum_tasks.findings import Finding
from continuum_tasks.health.plan.protection import recovery_points
from continuum_tasks.host.job_kinds import CREATE_BACKUP
from continuum_tasks.model import Attestation, Backup, BackupStatus, DrillRecord, Level
from continuum_tasks.report.plan import trend
from continuum_tasks.report.plan.capture_coverage import CaptureCoverage, CaptureRows, capture_coverage, followed
from continuum_tasks.report.plan.exposure import Exposure, Points, RecoveryPoint, follow_exposure
from continuum_tasks.report.plan.usage import StorageUsage, UsagePoint

PERIODS: Mapping[str, tuple[int, int, int]] = {"day": (1, 24, 144), "week": (7, 28, 168), "month": (30, 30, 180)}
MAX_DRILLS = 12  # how many drills the trend looks back on: a year of monthly ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What is reported on: `n_bars` slices for counts, `n_slices` for the recovery point."""

    name: str
    since: datetime
    until: datetime
    n_bars: int
    n_slices: int

    @classmethod
    def ending(cls, until: datetime, *, name: str) -> Period:
        """Return the day, week or month (30 days) that ends at that instant."""
        days, n_bars, n_slices = PERIODS[name]
        return cls(name=name, since=until - timedelta(days=days), until=until, n_bars=n_bars, n_slices=n_slices)

    def holds(self, at: datetime) -> bool:
        return self.since <= at <= self.until

    def bar(self, at: datetime) -> int:
        """Return the number of the bar an instant of the period falls into."""
        return min(self.n_bars - 1, int((at - self.since) / (self.until - self.since) * self.n_bars))


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRun:
    """One backup that was made. `backup_id` is empty when it has expired since: then only its measurements are left."""

    backup_id: str
    database: str
    storage: str
    strategy: str
    created_at: datetime
    finished_at: datetime
    seconds: float
    stored_bytes: int
    suspect_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """One job that ended without a result."""

    kind: str
    database: str
    at: datetime
    error: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionEvent:
    """One thing done to what is kept: expired, held, released, rolled forward; `outcome` as the audit log has it."""

    at: datetime
    action: str
    subject: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One declared database and the age its last recovery point may have, in seconds; 0 = nothing is scheduled."""

    name: str
    target_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedVerification:
    """One verification of one database's backup."""

    database: str
    attestation: Attestation


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Everything a report is made of. `backups` newest first; `expired` are runs that the catalog no longer has."""

    databases: tuple[Declared, ...]
    backups: tuple[Backup, ...]
    expired: tuple[BackupRun, ...]
    failed: tuple[FailedRun, ...]
    verdicts: tuple[ReportedVerification, ...]
    drills: tuple[DrillRecord, ...]
    decisions: tuple[RetentionEvent, ...]
    storages: tuple[StorageUsage, ...]
    captures: tuple[CaptureRows, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodSlice:
    """What one slice of the period saw."""

    begins_at: datetime
    n_made: int
    n_suspect: int
    n_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of what could be restored was proven by a test restore (now), and what verifications found (in the period).

    A test restore reads what it needs of its whole chain: `n_chains_proven` counts chains with a verified backup.
    """

    n_points: int
    n_verified: int
    n_chains: int
    n_chains_proven: int
    last_verified_at: datetime | None
    n_passed: int
    n_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseReport:
    """One database over the period. `median_seconds` None = nothing was made; `by_strategy` counts what was made.

    `capture` None = its capture was not measured in the period.
    """

    name: str
    declared: bool
    n_made: int
    n_failed: int
    n_suspect: int
    by_strategy: tuple[tuple[str, int], ...]
    stored_bytes: int
    median_seconds: float | None
    exposure: Exposure
    coverage: Coverage
    capture: CaptureCoverage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drills:
    """Test restores: those of the period, and what the last dozen say. `change` is the share by which the RTO rose.

    `history` is oldest first and reaches back before the period; `change` None = too few to tell.
    """

    in_period: tuple[DrillRecord, ...]
    history: tuple[DrillRecord, ...]
    change: float | None

    @property
    def n_failed(self) -> int:
        return sum(not drill.passed for drill in self.in_period)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodReport:
    """A period of one host's backups. `attention` is what somebody should look at, worst first."""

    host: str
    period: Period
    n_made: int
    n_failed: int
    stored_bytes: int
    databases: tuple[DatabaseReport, ...]
    bars: tuple[PeriodSlice, ...]
    failed: tuple[FailedRun, ...]
    suspects: tuple[BackupRun, ...]
    bad_verdicts: tuple[ReportedVerification, ...]
    drills: Drills
    decisions: tuple[RetentionEvent, ...]
    storages: tuple[StorageUsage, ...]
    attention: tuple[Finding, ...] = ()


def build_report(rows: Rows, period: Period, *, host: str) -> PeriodReport:
    """Make the report of one period. What the attention list says is decided in `report.plan.attention`."""
    from_catalog = [_run(backup) for backup in rows.backups]
    everything = sorted((*from_catalog, *rows.expired), key=lambda run: run.finished_at, reverse=True)
    made = [run for run in everything if period.holds(run.finished_at)]
    failed = sorted((f for f in rows.failed if period.holds(f.at)), key=lambda f: f.at, reverse=True)
    backups_failed = [f for f in failed if f.kind == CREATE_BACKUP.word]
    verdicts = [v for v in rows.verdicts if period.holds(v.attestation.at)]
    return PeriodReport(
        host=host,
        period=period,
        n_made=len(made),
        n_failed=len(backups_failed),
        stored_bytes=sum(run.stored_bytes for run in made),
        databases=tuple(_database(declared, rows, period, made=made) for declared in _all_databases(rows)),
        bars=_bars(made, backups_failed, period),
        failed=tuple(failed),
        suspects=tuple(run for run in made if run.suspect_reasons),
        bad_verdicts=tuple(v for v in verdicts if not v.attestation.passed),
        drills=_drills(rows.drills, period),
        decisions=tuple(sorted((d for d in rows.decisions if period.holds(d.at)), key=lambda d: d.at, reverse=True)),
        storages=tuple(_within(storage, period) for storage in rows.storages),
    )


def _run(backup: Backup) -> BackupRun:
    reasons = backup.suspect_reasons or ("suspect",)
    return BackupRun(
        backup_id=backup.id,
        database=backup.database,
        storage=backup.storage,
        strategy=backup.strategy.value,
        created_at=backup.created_at,
        finished_at=backup.finished_at,
        seconds=max(0.0, (backup.finished_at - backup.created_at).total_seconds()),
        stored_bytes=backup.stored_size_bytes,
        suspect_reasons=reasons if backup.status is BackupStatus.SUSPECT else (),
    )


def _all_databases(rows: Rows) -> list[Declared]:
    """Return the declared databases, then those only backups are left of; nothing is expected of the latter."""
    declared = {database.name for database in rows.databases}
    others = {backup.database for backup in rows.backups} - declared
    return [*rows.databases, *(Declared(name=name, target_seconds=0) for name in sorted(others))]


def _database(declared: Declared, rows: Rows, period: Period, *, made: Sequence[BackupRun]) -> DatabaseReport:
    mine = [run for run in made if run.database == declared.name]
    backups = [backup for backup in rows.backups if backup.database == declared.name]
    good = recovery_points(backups)
    expired = [run for run in rows.expired if run.database == declared.name and not run.suspect_reasons]
    made_at = [*((b.created_at, b.finished_at) for b in good), *((run.created_at, run.finished_at) for run in expired)]
    points = [RecoveryPoint(created_at=created, available_at=finished) for created, finished in made_at]
    verdicts = [v.attestation for v in rows.verdicts if v.database == declared.name and period.holds(v.attestation.at)]
    capture = next((one for one in rows.captures if one.database == declared.name), CaptureRows(database=declared.name))
    span = {"since": period.since, "until": period.until}
    return DatabaseReport(
        name=declared.name,
        declared=any(database.name == declared.name for database in rows.databases),
        n_made=len(mine),
        n_failed=sum(f.database == declared.name and f.kind == CREATE_BACKUP.word and period.holds(f.at) for f in rows.failed),
        n_suspect=sum(bool(run.suspect_reasons) for run in mine),
        by_strategy=tuple(sorted(Counter(run.strategy for run in mine).items())),
        stored_bytes=sum(run.stored_bytes for run in mine),
        median_seconds=median(run.seconds for run in mine) if mine else None,
        exposure=follow_exposure(
            Points(made=points, followed=followed(capture, **span)),
            target_seconds=declared.target_seconds,
            n_slices=period.n_slices,
            **span,
        ),
        coverage=_coverage(good, verdicts),
        capture=capture_coverage(capture, n_slices=period.n_slices, **span),
    )


def _coverage(good: Sequence[Backup], verdicts: Iterable[Attestation]) -> Coverage:
    passed = Counter(verdict.passed for verdict in verdicts if verdict.level is Level.RESTORE or not verdict.passed)
    verified = [backup for backup in good if backup.verified]
    return Coverage(
        n_points=len(good),
        n_verified=len(verified),
        n_chains=len({(b.storage, b.base_id) for b in good}),
        n_chains_proven=len({(b.storage, b.base_id) for b in verified}),
        last_verified_at=max((b.verified_at for b in verified if b.verified_at is not None), default=None),
        n_passed=passed[True],
        n_failed=passed[False],
    )


def _bars(made: Sequence[BackupRun], failed: Sequence[FailedRun], period: Period) -> tuple[PeriodSlice, ...]:
    n_made = Counter(period.bar(run.finished_at) for run in made)
    n_suspect = Counter(period.bar(run.finished_at) for run in made if run.suspect_reasons)
    n_failed = Counter(period.bar(run.at) for run in failed)
    width = (period.until - period.since) / period.n_bars
    return tuple(
        PeriodSlice(begins_at=period.since + i * width, n_made=n_made[i], n_suspect=n_suspect[i], n_failed=n_failed[i])
        for i in range(period.n_bars)
    )


def _drills(drills: Iterable[DrillRecord], period: Period) -> Drills:
    until = sorted((drill for drill in drills if drill.at <= period.until), key=lambda drill: drill.at)
    history = tuple(until[-MAX_DRILLS:])
    in_period = tuple(drill for drill in until if period.holds(drill.at))
    return Drills(in_period=in_period, history=history, change=trend.trend_change([d.rto_seconds for d in history if d.passed]))


def _within(storage: StorageUsage, period: Period) -> StorageUsage:
    """Keep of a storage's history what the period shows, with the level it began at."""
    before = [point for point in storage.points if point.at < period.since]
    inside = [point for point in storage.points if period.holds(point.at)]
    level = [UsagePoint(at=period.since, n_bytes=before[-1].n_bytes)] if before else []
    return replace(storage, points=(*level, *inside))
