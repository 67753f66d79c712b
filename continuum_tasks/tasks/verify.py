"""The task that verifies one backup from its storage, on the verify pool."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from celery import Task, shared_task

from continuum_tasks.actions import verify
from continuum_tasks.model import BackupId, Level, Progress
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.routing import VERIFY_BACKUP
from continuum_tasks.tasks.shell import Bench, perform

KIND = "verify_backup"


@shared_task(name=VERIFY_BACKUP, bind=True)
def verify_backup(self: Task[Any, Any], job_id: str) -> Any:
    """Verify as the job row says, in threads of its own: the transfer pool is left to backups and restores."""
    return perform(self, job_id, kind=KIND, act=_act)


def _act(runtime: Runtime, bench: Bench) -> Generator[Progress, None, verify.Verified]:
    args = bench.job.args
    request = verify.Request(backup_id=BackupId(str(args["backup_id"])), level=Level(str(args["level"])))
    return verify.run(request, repository=runtime.repository(str(args["storage"])), site=runtime.site, fan=runtime.fan())
