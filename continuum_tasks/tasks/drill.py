"""The tasks that restore a backup to scratch: a test restore, and a drill, which also runs the operator's own checks."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from celery import Task, shared_task

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.host.routing import RUN_DRILL, TEST_RESTORE
from continuum_tasks.model import Backup, BackupId, Progress, Rehearsal
from continuum_tasks.runtime import Runtime
from continuum_tasks.schedule.plan.schedule import Duty
from continuum_tasks.tasks.shell import JobContext, perform
from continuum_tasks.verify import drill

_KINDS = {Duty.TEST_RESTORE.value: Rehearsal.TEST_RESTORE, Duty.DRILL.value: Rehearsal.DRILL}


@shared_task(name=TEST_RESTORE, bind=True)
def run_test_restore(self: Task[Any, Any], job_id: str) -> Any:
    """Restore to scratch, prove and measure, in threads of its own: the transfer pool is left to backups and restores."""
    return perform(self, job_id, kind=Duty.TEST_RESTORE.value, act=_act)


@shared_task(name=RUN_DRILL, bind=True)
def run_drill(self: Task[Any, Any], job_id: str) -> Any:
    """As a test restore, with the checks of [drill] and a line in the drill log."""
    return perform(self, job_id, kind=Duty.DRILL.value, act=_act)


def _act(runtime: Runtime, bench: JobContext) -> Generator[Progress, None, drill.Drilled]:
    backup = _find(runtime, BackupId(str(bench.job.args["backup_id"])), storage=str(bench.job.args["storage"]))
    return drill.rehearse(
        drill.DrillRequest(backup=backup, kind=_KINDS[bench.job.kind]),
        config=runtime.config,
        repository=runtime.repository(backup.storage),
        site=runtime.site,
        fan=runtime.fan(),
    )


def _find(runtime: Runtime, backup_id: BackupId, *, storage: str) -> Backup:
    """Find the backup in the catalog first: then also a drill whose storage is away is recorded as failed."""
    try:
        return runtime.catalog.find(backup_id, storage=storage)
    except BackupNotFound:
        return runtime.repository(storage).read_chain(backup_id, check_signature=False)[-1].backup
