"""The task that makes one backup, on the agent pool of the host that has the database."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from celery import Task, shared_task

from continuum_tasks.backup import create
from continuum_tasks.backup.choose_parent import BackupRequest
from continuum_tasks.host.routing import CREATE_BACKUP
from continuum_tasks.model import Progress, Strategy
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.shell import JobContext, perform

KIND = "create_backup"


@shared_task(name=CREATE_BACKUP, bind=True)
def create_backup_task(self: Task[Any, Any], job_id: str) -> Any:
    """Back up as the job row says; delivered twice, at once or later, it changes nothing."""
    return perform(self, job_id, kind=KIND, act=_act)


def _act(runtime: Runtime, bench: JobContext) -> Generator[Progress, None, create.Finished]:
    request, repository = request_of(
        runtime, database=str(bench.job.args["database"]), strategy=str(bench.job.args["strategy"])
    )
    chosen = runtime.repository(str(bench.job.args.get("storage") or repository))
    return create.create_backup(request, repository=chosen, site=runtime.site, fan=bench.fan, check_lease=bench.check_lease)


def request_of(runtime: Runtime, *, database: str, strategy: str) -> tuple[BackupRequest, str]:
    """Return what to back up and the name of the storage the database is configured for. Raises UsageError."""
    settings = runtime.config.database(database)
    is_default = settings.name == runtime.config.default_database
    return BackupRequest(database=settings, strategy=Strategy(strategy), is_default=is_default), settings.storage
