"""The task that restores one backup, on the agent pool of the host that gets the file."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from celery import Task, shared_task

from continuum_tasks.host.routing import RESTORE_BACKUP
from continuum_tasks.model import BackupId, CommitRef, Progress, TimelineId
from continuum_tasks.restore import restore
from continuum_tasks.restore.online import Online, busy_window
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.shell import JobContext, perform

KIND = "restore_backup"


@shared_task(name=RESTORE_BACKUP, bind=True)
def restore_backup_task(self: Task[Any, Any], job_id: str) -> Any:
    """Restore as the job row says; delivered twice, at once or later, it changes nothing."""
    return perform(self, job_id, kind=KIND, act=_act)


def _act(runtime: Runtime, bench: JobContext) -> Generator[Progress, None, restore.Restored]:
    args = bench.job.args
    request = restore.RestoreRequest(
        backup_id=BackupId(str(args["backup_id"])),
        target=Path(str(args["target"])),
        overwrite=bool(args["overwrite"]),
        verify=bool(args["verify"]),
        region=str(args.get("region", "")),  # a row queued before the option was there has none
        commit=_commit(args),
        online=_online(runtime, args),
    )
    storage = str(args["storage"])
    there = runtime.in_region(request.region, storage=storage)
    fan = there.fan() if request.region else bench.fan  # transfer workers would ask in the region of storage.conf
    return restore.restore_backup(
        request, repository=there.repository(storage), site=runtime.site, fan=fan, check_lease=bench.check_lease
    )


def _online(runtime: Runtime, args: dict[str, Any]) -> Online | None:
    if not args.get("online"):  # nor has a row that was queued before this option was there
        return None
    window = busy_window(runtime.config, Path(str(args["target"])), str(args.get("database", "")))
    return Online(busy_window_seconds=window, wait_writers=bool(args.get("wait_writers")))


def _commit(args: dict[str, Any]) -> CommitRef | None:
    number = int(args.get("commit", 0))
    return CommitRef(timeline=TimelineId(str(args["timeline"])), number=number) if number else None
