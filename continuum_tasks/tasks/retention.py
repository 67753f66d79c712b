"""The tasks that expire backups, on the control pool: one that does it, one that sees that it is due."""

from __future__ import annotations

import logging
from collections.abc import Generator
from datetime import datetime
from typing import Any

from celery import Task, shared_task

from continuum_tasks.history.chain import made_on
from continuum_tasks.host.audit_trail import TIMETABLE
from continuum_tasks.host.jobs import Job, JobState
from continuum_tasks.host.routing import APPLY_RETENTION, LOW_PRIORITY, RETENTION_DUE
from continuum_tasks.model import Progress
from continuum_tasks.retention import expire
from continuum_tasks.retention.plan.retention import slot
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.shell import JobContext, perform, ring_row, runtime_of

KIND = "apply_retention"

_log = logging.getLogger(__name__)


@shared_task(name=APPLY_RETENTION, bind=True)
def run_retention(self: Task[Any, Any], job_id: str) -> Any:
    """Apply retention as the job row says; delivered twice, at once or later, it changes nothing."""
    return perform(self, job_id, kind=KIND, act=_act)


@shared_task(name=RETENTION_DUE, bind=True, ignore_result=True)
def retention_due(self: Task[Any, Any]) -> None:
    """Queue each database's run of the day in each storage that holds backups of it.

    Its row is the record: a beat that comes twice finds it, a missed one is made up for, and only a run that failed is
    queued again, once an hour. Raises the first error of a storage that was never read and cannot be, after the others had
    their turn.
    """
    runtime = runtime_of(self)
    unread = runtime.index_all()
    now = runtime.site.clock.now()
    for database, storage in pairs(runtime):
        job = _row(runtime, database, storage, now=now)
        if job.state is JobState.QUEUED and job.rung_at is None and ring_row(self.app, runtime.config, job):
            runtime.jobs.mark_rung([job.id], now=now)
    if unread:
        raise unread[0]


def pairs(runtime: Runtime, *, database: str = "", storage: str = "") -> list[tuple[str, str]]:
    """Return each declared database with each storage that holds backups of it; empty names mean all.

    What another host backs up is that host's to expire.
    """
    held = {(b.database, b.storage) for b in made_on(runtime.config.host, runtime.catalog.backups())}
    databases = [d.name for d in runtime.config.databases if database in ("", d.name)]
    storages = [s.name for s in runtime.config.storages if storage in ("", s.name)]
    return [(d, s) for d in databases for s in storages if (d, s) in held]


def _row(runtime: Runtime, database: str, storage: str, *, now: datetime) -> Job:
    args = {"database": database, "storage": storage, "aggressive": False, "by": TIMETABLE}
    name = f"due-retention-{database}-{storage}-{slot(now)}"
    first = _add(runtime, name, args, now=now)
    return _add(runtime, f"{name}-{now:%H}", args, now=now) if first.state is JobState.FAILED else first


def _add(runtime: Runtime, name: str, args: dict[str, Any], *, now: datetime) -> Job:
    attempts = runtime.config.backup.max_attempts
    return runtime.jobs.add(
        KIND, args, id=name, database=args["database"], priority=LOW_PRIORITY, max_attempts=attempts, now=now
    )


def _act(runtime: Runtime, bench: JobContext) -> Generator[Progress, None, expire.Applied]:
    args = bench.job.args
    policy = expire.policy_of(runtime.config.retention, aggressive=bool(args["aggressive"]))
    window = runtime.config.retention.pitr_window_seconds
    request = expire.RetentionRequest(
        database=str(args["database"]), policy=policy, by=str(args["by"]), pitr_window_seconds=window
    )
    repository = runtime.repository(str(args["storage"]))
    done = yield from expire.apply_policy(
        request, repository=repository, site=runtime.site, fan=bench.fan, check_lease=bench.check_lease
    )
    if done.stopped:
        _log.warning("%s in %s: nothing expires: %s", done.database, done.storage, done.stopped)
    return done
