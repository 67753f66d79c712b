"""The task that looks each minute how far back a restore would go, and says so when that is further than was promised."""

from __future__ import annotations

import logging
from typing import Any

from celery import Task, shared_task

from continuum_tasks.health import recovery_points
from continuum_tasks.health.plan.protection import LastBackup
from continuum_tasks.host import routing
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.shell import runtime_of
from continuum_tasks.units import show_seconds

_log = logging.getLogger(__name__)


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
