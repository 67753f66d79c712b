"""Decide what in a report somebody should look at, worst first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from continuum_tasks.findings import Finding, critical, rank, warning
from continuum_tasks.host.job_kinds import CREATE_BACKUP, FETCH_CHUNK, SEAL_CHUNK
from continuum_tasks.report.plan.report import DatabaseReport, PeriodReport
from continuum_tasks.report.plan.usage import StorageUsage
from continuum_tasks.units import show_bytes, show_seconds

FILLS_SOON = timedelta(days=30)
SLOWER = 0.25
CAPTURED_SHARE = 0.999  # a minute and a half a day: restarts
DRILL_EVERY = timedelta(days=35)  # the monthly drill, and a few days


def attention(report: PeriodReport) -> tuple[Finding, ...]:
    """Return the findings of a report, worst first; empty when there is nothing to do."""
    found: list[Finding] = []
    for database in report.databases:
        found += _database(database, until=report.period.until)
    found += _failures(report)
    found += _suspects(report)
    found += _drills(report)
    for storage in report.storages:
        found += _storage(storage, until=report.period.until)
    return tuple(sorted(found, key=lambda finding: -rank(finding.severity)))


def _database(database: DatabaseReport, *, until: datetime) -> Iterator[Finding]:
    subject = f"database {database.name}"
    if not database.declared:
        return
    exposed = database.exposure
    if exposed.last_seconds is None:
        yield critical(subject, "no recovery point", f"continuum backup create --database {database.name} --strategy full")
        return
    if 0 < exposed.target_seconds < exposed.last_seconds:
        target = show_seconds(exposed.target_seconds)
        text = f"its last recovery point was {show_seconds(exposed.last_seconds)} old, target {target}"
        yield critical(subject, text, "continuum backup health shows the cause")
    closed = [gap for gap in exposed.gaps if not gap.open]
    if closed:
        worst = max((gap.age_seconds or 0.0 for gap in closed), default=0.0)
        over = show_seconds(exposed.over_seconds)
        text = (
            f"{_n(len(closed), 'gap')} in its recovery points, {over} over the target in all, worst age {show_seconds(worst)}"
        )
        yield warning(subject, text, "compare with the failed backups, and with the times the host was down")
    yield from _captured(subject, database)
    last = database.coverage.last_verified_at
    if last is None:
        yield warning(subject, "none of its backups is verified", "continuum backup verify-all --since 7d")
    elif until - last > timedelta(days=7):
        text = f"its last verified backup was proven {show_seconds((until - last).total_seconds())} ago"
        yield warning(subject, text, "continuum backup verify-all --since 7d")


def _captured(subject: str, database: DatabaseReport) -> Iterator[Finding]:
    capture = database.capture
    if capture is None:
        return
    if capture.holes:
        last = capture.holes[0]
        edges = f"{last.begins_at:%Y-%m-%d %H:%M:%S} and {last.ends_at:%Y-%m-%d %H:%M:%S} UTC"
        text = f"{_n(len(capture.holes), 'hole')} in what was captured, the last between {edges}: {last.reason}"
        yield warning(subject, text, f"continuum backup history --database {database.name}")
    if capture.share < CAPTURED_SHARE:
        missed = show_seconds(capture.missed_seconds)
        text = f"for {missed} its commits were not captured or not in the storage ({100 * capture.share:.2f} % covered)"
        yield warning(subject, text, "was continuum up running, and the storage reachable? continuum backup capture status")


def _failures(report: PeriodReport) -> Iterator[Finding]:
    if report.n_failed:
        latest = next(run for run in report.failed if run.kind == CREATE_BACKUP.word)
        yield warning("backups", f"{_n(report.n_failed, 'run')} failed, the last: {latest.message}", latest.hint)
    others = [run for run in report.failed if run.kind not in (CREATE_BACKUP.word, SEAL_CHUNK.word, FETCH_CHUNK.word)]
    if others:
        text = f"{_n(len(others), 'other job')} failed, the last: {others[0].kind}: {others[0].message}"
        yield warning("jobs", text, others[0].hint)
    if report.bad_verdicts:
        last = max((verdict.attestation for verdict in report.bad_verdicts), key=lambda verdict: verdict.at)
        text = f"{_n(len(report.bad_verdicts), 'verification')} failed, the last of {last.backup_id}"
        yield critical("verification", text, "continuum backup info says what was found; make a new full backup")


def _suspects(report: PeriodReport) -> Iterator[Finding]:
    if report.suspects:
        first = report.suspects[0]
        text = f"{_n(len(report.suspects), 'backup')} suspect, the last {first.backup_id or first.strategy}"
        reason = first.suspect_reasons[0]
        yield warning(
            "anomalies", f"{text}: {reason}", "examine the database before older backups expire; put a clean one on hold"
        )


def _drills(report: PeriodReport) -> Iterator[Finding]:
    drills = report.drills
    if drills.n_failed:
        last = next(drill for drill in reversed(drills.in_period) if not drill.passed)
        found = last.findings[0] if last.findings else "no finding was noted"
        text = f"{_n(drills.n_failed, 'drill')} failed, the last of {last.backup_id}: {found}"
        yield critical("drills", text, f"remove the cause, then: continuum backup {last.kind} {last.backup_id}")
    if not drills.history:
        yield warning("drills", "no drill was ever made", "continuum backup drill")
    elif report.period.until - drills.history[-1].at > DRILL_EVERY:
        age = show_seconds((report.period.until - drills.history[-1].at).total_seconds())
        yield warning("drills", f"the last one was {age} ago", "continuum backup drill")
    if drills.change is not None and drills.change > SLOWER:
        text = f"restores take {100 * drills.change:.0f} % longer than before"
        yield warning("drills", text, "a shorter chain restores faster: make fulls more often")


def _storage(storage: StorageUsage, *, until: datetime) -> Iterator[Finding]:
    subject = f"storage {storage.storage}"
    if storage.trouble is not None:
        yield warning(subject, storage.trouble.message, storage.trouble.hint)
    if storage.fills_at is not None and storage.fills_at - until < FILLS_SOON:
        text = f"full in {show_seconds((storage.fills_at - until).total_seconds())} at this growth"
        free = show_bytes(storage.free_bytes or 0)
        yield critical(subject, f"{text}, {free} free", "continuum backup apply-retention, or add capacity")


def _n(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
