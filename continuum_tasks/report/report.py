"""Gather what this host knows of a period, from its catalog, job rows, measurements and audit log, and make the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from continuum_tasks.config import Config
from continuum_tasks.findings import Finding, warning
from continuum_tasks.health.plan.protection import target_seconds
from continuum_tasks.host import audit
from continuum_tasks.host.jobs import Failure, Jobs
from continuum_tasks.host.metrics import Sample
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup
from continuum_tasks.report import capture_series, usage
from continuum_tasks.report.plan.attention import attention
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

# Actions of the audit log that change what is kept.
RETENTION = frozenset({"apply-retention", "expire", "hold", "release", "accept", "roll-forward"})


def write_report_of(period: str, *, config: Config, site: HostContext, jobs: Jobs) -> PeriodReport:
    """Report on the `day`, `week` or `month` that ends now. Raises ConfigError or IntegrityError for metadata.db."""
    span = Period.ending(site.clock.now(), name=period)
    backups = tuple(site.catalog.backups())
    decisions, unread = _decided(site.state_dir / audit.FILE, since=span.since)
    rows = Rows(
        databases=_declared(config),
        backups=backups,
        expired=tuple(_expired(backups, site, since=span.since - timedelta(days=1))),
        failed=tuple(_failed(jobs, since=span.since)),
        verdicts=tuple(_verdicts(backups, site)),
        drills=tuple(drill for storage in config.storages for drill in site.catalog.drills(storage.name)),
        decisions=decisions,
        storages=usage.measure_usage(config.storages, backups, site=site),
        captures=tuple(capture_series.capture_series(config, site=site, since=span.since)),
    )
    made = build_report(rows, span, host=site.host)
    return replace(made, attention=(*attention(made), *unread))


def _declared(config: Config) -> tuple[Declared, ...]:
    return tuple(
        Declared(name=d.name, target_seconds=target_seconds(d.rhythm, continuous=d.continuous)) for d in config.databases
    )


def _expired(backups: Sequence[Backup], site: HostContext, *, since: datetime) -> Iterator[BackupRun]:
    """Find backups that were made and are not catalogued any more: their measurements are still there."""
    known = {(b.database, b.storage, b.strategy.value, b.finished_at) for b in backups}
    stored = {_key(sample): sample.value for sample in site.metrics.series("backup_stored_bytes", since=since)}
    for sample in site.metrics.series("backup_duration_seconds", since=since):
        key = _key(sample)
        if key not in known:
            yield BackupRun(
                backup_id="",
                database=key[0],
                storage=key[1],
                strategy=key[2],
                created_at=sample.at - timedelta(seconds=sample.value),
                finished_at=sample.at,
                seconds=sample.value,
                stored_bytes=int(stored.get(key, 0)),
                suspect_reasons=("its reasons went with it",) if sample.labels.get("status") == "suspect" else (),
            )


def _key(sample: Sample) -> tuple[str, str, str, datetime]:
    labels = sample.labels
    return labels.get("database", ""), labels.get("storage", ""), labels.get("strategy", ""), sample.at


def _failed(jobs: Jobs, *, since: datetime) -> Iterator[FailedRun]:
    for job in jobs.failed(since):
        error = job.error or Failure(name="JobFailed", message="no word was left of why")
        yield FailedRun(
            kind=job.kind, database=job.database, at=job.updated_at, error=error.name, message=error.message, hint=error.hint
        )


def _verdicts(backups: Iterable[Backup], site: HostContext) -> Iterator[ReportedVerification]:
    for backup in backups:
        if backup.verified_at is not None or backup.failed_at is not None:
            for attestation in site.catalog.attestations(backup.storage, backup.id):
                yield ReportedVerification(database=backup.database, attestation=attestation)


def _decided(path: Path, *, since: datetime) -> tuple[tuple[RetentionEvent, ...], tuple[Finding, ...]]:
    """Read the decisions; an audit log that cannot be read costs the report these, and is said in it."""
    try:
        return tuple(_decisions(path, since=since)), ()
    except OSError as err:
        text = f"{path}: {(err.strerror or 'cannot be read').lower()}: retention decisions are not in this report"
        return (), (warning("audit log", text, "make it a regular file that this user may read"),)


def _decisions(path: Path, *, since: datetime) -> Iterator[RetentionEvent]:
    for line in audit.read_events(path, since=since):
        event = line.event
        if event is not None and event.action in RETENTION:
            yield RetentionEvent(
                at=event.at, action=event.action, subject=event.subject, outcome=event.outcome, detail=event.detail
            )
