"""The tasks for the long run: storage sizes every hour, and a page about the week after each Sunday's window."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from celery import Task, shared_task

from continuum_tasks import __version__
from continuum_tasks.host import routing
from continuum_tasks.report import report, usage
from continuum_tasks.report.html.document import html_page
from continuum_tasks.report.report import write_report_file
from continuum_tasks.tasks.shell import runtime_of

REPORTS = "reports"  # in the state directory
KEEP_MEASUREMENTS_FOR = timedelta(days=100)  # a backup every 4 minutes adds 2,000 rows a day
KEEP_MINUTES_FOR = timedelta(days=2)

_log = logging.getLogger(__name__)


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
