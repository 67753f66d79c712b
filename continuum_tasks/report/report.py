"""Gather what this host knows of a period, from its catalog, job rows, measurements and audit log, and make the report."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from continuum_tasks.capture.state.holes import read_holes
from continuum_tasks.config import Config
from continuum_tasks.errors import NoSpace, TargetError, TargetExists
from continuum_tasks.findings import Finding, warning
from continuum_tasks.health.plan.protection import target_seconds
from continuum_tasks.host import audit
from continuum_tasks.host.jobs import Failure, Jobs
from continuum_tasks.host.metrics import Sample
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup
from continuum_tasks.report import usage
from continuum_tasks.report.html.document import BEGIN
from continuum_tasks.report.plan.attention import attention
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
        captures=tuple(capture_series(config, site=site, since=span.since)),
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


# Which field of CaptureRows a metric fills, by its name and quantile.
_FIELDS = {
    ("capture_down", ""): "down",
    ("backup_rpo_seconds", ""): "ages",
    ("capture_lag_seconds", "0.5"): "lags_p50",
    ("capture_lag_seconds", "0.95"): "lags_p95",
    ("capture_wal_bytes", ""): "wal_bytes",
    ("capture_commits_total", ""): "commits",
    ("capture_stored_bytes", ""): "stored_bytes",
    ("capture_requests", ""): "requests",
}


def capture_series(config: Config, *, site: HostContext, since: datetime) -> Iterator[CaptureRows]:
    """Yield what is known of the capture of each declared database that was, or is to be, captured."""
    found: dict[str, dict[str, list[tuple[datetime, float]]]] = {}
    for name in sorted({name for name, _ in _FIELDS}):
        for sample in site.metrics.series(name, since=since):
            field = _FIELDS[name, sample.labels.get("quantile", "")]
            of_it = found.setdefault(sample.labels.get("database", ""), {})
            of_it.setdefault(field, []).append((sample.at, sample.value))
    for database in config.databases:
        measured = {field: tuple(series) for field, series in found.get(database.name, {}).items()}
        if measured.get("down"):
            rows = CaptureRows(database=database.name, holes=read_holes(site.state_dir, database.name))
            yield replace(rows, **measured)  # type: ignore[arg-type]


def write_report_file(path: Path, page: str, *, nonce: str) -> None:
    """Write a page in one step (0600), durable on return. A report that is there is replaced, any other file is refused.

    Raises TargetExists, NoSpace, TargetError.
    """
    temporary = path.parent / f".continuum-report-{nonce}.tmp"
    try:
        _refuse_other(path)
        _write(temporary, page.encode("utf-8"))
        temporary.replace(path)
        _sync(path.parent)
    except OSError as err:
        failure = NoSpace if err.errno in (errno.ENOSPC, errno.EDQUOT) else TargetError
        message = f"{path}: cannot be written: {(err.strerror or type(err).__name__).lower()}"
        raise failure(message, hint="check the directory, its permissions and its free space") from err
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_other(path: Path) -> None:
    if not (path.exists() or path.is_symlink()):
        return
    begin = b""
    if path.is_file() and not path.is_symlink():
        with path.open("rb") as file:
            begin = file.read(len(BEGIN))
    if begin != BEGIN.encode():
        raise TargetExists(f"{path}: is there and is not a report", hint="name another file: only a report is replaced")


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
