"""A week of one host for tests of reports: a few backups of everything a report tells of."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from continuum_tasks.history.timeline import Hole
from continuum_tasks.model import Attestation, BackupId, BackupStatus, DrillRecord, Level, PhaseCost
from continuum_tasks.report.plan.capture_coverage import CaptureRows
from continuum_tasks.report.plan.report import (
    BackupRun,
    Declared,
    FailedRun,
    Period,
    PeriodReport,
    ReportedVerification,
    RetentionEvent,
    Rows,
    build_report,
)
from continuum_tasks.report.plan.usage import StorageReading, UsagePoint, add_up_usage
from continuum_tasks.units import microseconds
from tests.unit.retention.plan.rows import NOW, ago, backup, identify

WEEK = Period.ending(NOW, name="week")


def verdict(
    n: int, *, passed: bool, at: datetime, database: str = "memory", level: Level = Level.RESTORE
) -> ReportedVerification:
    found = () if passed else (f"object of {n}: damaged",)
    made = Attestation(
        backup_id=identify(n), level=level, passed=passed, at=at, duration_seconds=2.0, host="h1", findings=found
    )
    return ReportedVerification(database=database, attestation=made)


def drill(n: int, *, at: datetime, seconds: float, passed: bool = True) -> DrillRecord:
    return DrillRecord(
        backup_id=identify(n),
        database="memory",
        passed=passed,
        at=at,
        rto_seconds=seconds,
        phases=(PhaseCost(phase="fetch", seconds=seconds / 2, n_bytes=10),),
        findings=() if passed else ("invariant: no",),
        host="h1",
    )


def failed(*, at: datetime, kind: str = "create_backup", database: str = "memory", message: str = "locked") -> FailedRun:
    return FailedRun(kind=kind, database=database, at=at, error="SourceBusy", message=message, hint="wait")


def expired(*, at: datetime, **changes: Any) -> BackupRun:
    made = BackupRun(
        backup_id="",
        database="memory",
        storage="local",
        strategy="incremental",
        created_at=at - timedelta(seconds=4),
        finished_at=at,
        seconds=4.0,
        stored_bytes=30,
    )
    return replace(made, **changes)


def captured(**changes: Any) -> CaptureRows:
    """Three days of `memory`, measured each hour, one of them down, with a hole of a minute and one long before."""
    hours = [ago(hours=h) for h in range(72, 0, -1)]
    at_us = microseconds(ago(hours=30))
    hole = Hole(timeline="timeline-1", commit=900, from_us=at_us, to_us=at_us + 60_000_000, reason="the log was restarted")
    found = CaptureRows(
        database="memory",
        down=tuple((at, float(at == ago(hours=60))) for at in hours),
        ages=tuple((at, 2.0) for at in hours),
        lags_p50=tuple((at, 0.6) for at in hours),
        lags_p95=tuple((at, 1.0 + n % 3 / 10) for n, at in enumerate(hours)),
        wal_bytes=tuple((at, 1000.0 * n) for n, at in enumerate(hours)),
        commits=tuple((at, 10.0 * n) for n, at in enumerate(hours)),
        stored_bytes=tuple((at, 100.0 * (n % 60)) for n, at in enumerate(hours)),
        requests=tuple((at, float(n)) for n, at in enumerate(hours)),
        holes=(replace(hole, from_us=0, to_us=1), hole),
    )
    return replace(found, **changes)


def rows(**changes: Any) -> Rows:
    """Two chains of `memory`, one of `archive`, one database that is not declared any more."""
    made = [
        backup(1, created_at=ago(days=9), finished_at=ago(days=9), base_id=identify(1), verified_at=ago(days=8)),
        backup(2, parent=1, created_at=ago(days=3), finished_at=ago(days=3) + timedelta(seconds=6), base_id=identify(1)),
        backup(3, created_at=ago(hours=2), finished_at=ago(hours=2) + timedelta(seconds=2), verified_at=ago(hours=1)),
        backup(
            4,
            parent=3,
            base_id=identify(3),
            created_at=ago(hours=1),
            finished_at=ago(hours=1),
            status=BackupStatus.SUSPECT,
            suspect_reasons=("anomaly: 61 % of the pages changed",),
        ),
        backup(5, database="archive", storage="s3", created_at=ago(days=1), finished_at=ago(days=1)),
        backup(6, database="old", created_at=ago(days=100), finished_at=ago(days=100)),
    ]
    newest_first = tuple(sorted(made, key=lambda b: b.created_at, reverse=True))
    local = StorageReading(
        name="local", free_bytes=10**9, measured=tuple(UsagePoint(at=ago(days=n), n_bytes=1000) for n in (20, 2, 1))
    )
    usage = [add_up_usage(facts, made, now=NOW) for facts in (local, StorageReading(name="s3", free_bytes=None))]
    found = Rows(
        databases=(Declared(name="memory", target_seconds=3 * 86_400), Declared(name="archive", target_seconds=2 * 86_400)),
        backups=newest_first,
        expired=(expired(at=ago(days=5)), expired(at=ago(days=6), suspect_reasons=("gone",)), expired(at=ago(days=30))),
        failed=(failed(at=ago(hours=5)), failed(at=ago(days=2), kind="verify_backup"), failed(at=ago(days=8))),
        verdicts=(
            verdict(3, passed=True, at=ago(hours=1)),
            verdict(1, passed=True, at=ago(days=8)),
            verdict(2, passed=True, at=ago(days=2), level=Level.OBJECTS),
        ),
        drills=(drill(1, at=ago(days=40), seconds=10), drill(2, at=ago(days=2), seconds=12)),
        decisions=(
            RetentionEvent(
                at=ago(days=1), action="expire", subject=identify(9), outcome="done", detail="older than every rule"
            ),
            RetentionEvent(at=ago(days=8), action="hold", subject=identify(1), outcome="done", detail="before the change"),
        ),
        storages=tuple(usage),
    )
    return replace(found, **changes)


def report(**changes: Any) -> PeriodReport:
    return build_report(rows(**changes), WEEK, host="h1")


def backup_id(n: int) -> BackupId:
    return identify(n)
