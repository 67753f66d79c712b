"""The tasks of the timetable: look at what there is, queue what is due, ring for it, and say what is wrong."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

from celery import Task, shared_task

from continuum_tasks import __version__
from continuum_tasks.errors import StorageError
from continuum_tasks.findings import Finding, Severity
from continuum_tasks.health import health, recovery_points
from continuum_tasks.health.plan.protection import LastBackup
from continuum_tasks.host import routing
from continuum_tasks.host.jobs import Job
from continuum_tasks.report import report, usage
from continuum_tasks.report.html.document import html_page
from continuum_tasks.report.report import write_report_file
from continuum_tasks.runtime import Runtime
from continuum_tasks.schedule.queue_due import queue_due, queue_retention
from continuum_tasks.schedule.reconcile import rows_to_ring
from continuum_tasks.tasks.health import health_document, surroundings
from continuum_tasks.tasks.shell import ring_row, runtime_of
from continuum_tasks.units import show_seconds

REPORTS = "reports"  # in the state directory
KEEP_MEASUREMENTS_FOR = timedelta(days=100)  # a backup every 4 minutes adds 2,000 rows a day
KEEP_MINUTES_FOR = timedelta(days=2)
ASK_AFTER = timedelta(minutes=57)  # each hour, of looks every five minutes: an idle host costs a storage next to no requests
_LEVELS = {Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.CRITICAL}

_log = logging.getLogger(__name__)


@shared_task(name=routing.RECONCILE, bind=True, ignore_result=True)
def reconcile(self: Task[Any, Any]) -> None:
    """Ring for rows the broker forgot or whose worker died, fail those out of attempts, forget old ones."""
    runtime = runtime_of(self)
    for job in rows_to_ring(runtime, now=runtime.site.clock.now()):
        _ring(self, runtime, job)


@shared_task(name=routing.SCHEDULE_DUE, bind=True, ignore_result=True)
def schedule_due(self: Task[Any, Any]) -> None:
    """Queue what each database owes now. Ids name the minute, so two beats queue it once.

    Raises the first error of a storage that cannot be asked, after every other database had its turn.
    """
    runtime = runtime_of(self)
    unread = []
    for database in runtime.config.databases:
        try:
            runtime.index(database.storage)
        except StorageError as err:
            unread.append(err)
            continue
        for job in queue_due(runtime, database, now=runtime.site.clock.now()):
            _ring(self, runtime, job)
    if unread:
        raise unread[0]


@shared_task(name=routing.RETENTION_DUE, bind=True, ignore_result=True)
def retention_due(self: Task[Any, Any]) -> None:
    """Queue each database's retention of the day.

    Raises the first error of a storage that was never read and cannot be, after the others had their turn.
    """
    runtime = runtime_of(self)
    unread = runtime.index_all()
    for job in queue_retention(runtime, now=runtime.site.clock.now()):
        _ring(self, runtime, job)
    if unread:
        raise unread[0]


def _ring(task: Task[Any, Any], runtime: Runtime, job: Job) -> None:
    if ring_row(task.app, runtime.config, job):
        runtime.jobs.mark_rung([job.id], now=runtime.site.clock.now())


@shared_task(name=routing.HEALTH_CHECK, bind=True, ignore_result=False)
def run_health_check(self: Task[Any, Any]) -> Any:
    """Look, log every finding that is not ok, and return the report as JSON."""
    report = health.check_health(replace(surroundings(runtime_of(self)), ask_after=ASK_AFTER))
    for finding in report.findings:
        _note(finding)
    return health_document(report)


def _note(finding: Finding) -> None:
    if finding.severity in _LEVELS:
        hint = f" ({finding.hint})" if finding.hint else ""
        _log.log(_LEVELS[finding.severity], "%s: %s%s", finding.subject, finding.text, hint)


@shared_task(name=routing.RPO_WATCHDOG, bind=True, ignore_result=True)
def rpo_watchdog(self: Task[Any, Any]) -> None:
    """Measure the age of each database's recovery point; above its target it is an error in the log."""
    watch_recovery_points_task(runtime_of(self))


def watch_recovery_points_task(runtime: Runtime) -> None:
    """Measure, and say what is late."""
    for last in recovery_points.watch_recovery_points(runtime.config, site=runtime.site):
        if last.late and last.target_seconds:
            _log.error("database %s: %s", last.database, breach(last))


def breach(last: LastBackup) -> str:
    """Say how far a database is from its target, and what to do."""
    target = show_seconds(last.target_seconds)
    create = f"continuum backup create --database {last.database} --strategy incremental --priority high"
    if last.backup is None:
        return f"no usable backup, rpo_target {target}: run `{create}`"
    age = show_seconds(last.age_seconds)
    if last.captured_until is not None:
        return f"its commits of the last {age} are not in the storage, rpo_target {target}: run `continuum backup health`"
    return f"last usable backup {last.backup.id} is {age} old, rpo_target {target}: run `{create}`"


@shared_task(name=routing.WRITE_REPORT, bind=True, ignore_result=False)
def write_report(self: Task[Any, Any]) -> str:
    """Write the week's page to `<state_dir>/reports/YYYY-Www.html` and return its path. Doing it twice writes it anew."""
    runtime = runtime_of(self)
    runtime.index_all()  # a page on what is known is worth more than none
    made = report.write_report_of("week", config=runtime.config, site=runtime.site, jobs=runtime.jobs)
    directory = runtime.config.state_dir / REPORTS
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{made.period.until:%G-W%V}.html"
    write_report_file(path, html_page(made, version=__version__), nonce=runtime.site.random_bytes(6).hex())
    for finding in made.attention:
        _log.warning("report: %s: %s: %s", finding.severity.value, finding.subject, finding.text)
    return str(path)


@shared_task(name=routing.MEASURE_STORAGES, bind=True, ignore_result=True)
def measure_storages(self: Task[Any, Any]) -> None:
    """Keep how much each storage holds and has free: what expires leaves the catalog, these measurements stay for a while."""
    runtime = runtime_of(self)
    unread = runtime.index_all()
    usage.measure_usage(runtime.config.storages, runtime.catalog.backups(), site=runtime.site)
    now, metrics = runtime.site.clock.now(), runtime.site.metrics
    metrics.thin(since=now - 2 * KEEP_MINUTES_FOR, before=now - KEEP_MINUTES_FOR)
    metrics.forget(now - KEEP_MEASUREMENTS_FOR)
    if unread:
        raise unread[0]
