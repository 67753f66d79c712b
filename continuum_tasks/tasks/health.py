"""What a health check on this host looks at, and its report as a document; for the task and for the command."""

from __future__ import annotations

from typing import Any

from continuum_tasks.findings import rank
from continuum_tasks.health import health
from continuum_tasks.health.plan.protection import LastBackup
from continuum_tasks.host import routing
from continuum_tasks.repository.documents import to_json
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.client import broker_url_of, check_broker

BEAT = "beat"


def health_document(report: health.HealthReport) -> dict[str, Any]:
    """Return a report as JSON values, as the command line prints it too."""
    return {
        "status": report.severity.value,
        "exit_code": rank(report.severity),
        "at": report.at.isoformat(),
        "last_backups": [_last(last) for last in report.last_backups],
        "findings": to_json(report.findings),
    }


def surroundings(runtime: Runtime) -> health.HealthInputs:
    """Return what a health check on this host looks at."""
    config = runtime.config
    queues = {
        "agent": routing.agent_queue(config.host),
        "transfer": routing.transfer_queue(config.host),
        "verify": routing.verify_queue(config.host),
        "control": routing.control_queue(config.host),
        BEAT: "",
    }
    return health.HealthInputs(
        config=config,
        site=runtime.site,
        jobs=runtime.jobs,
        keyring=runtime.keyring,
        repository=runtime.repository,
        check_broker=lambda: check_broker(broker_url_of(config)),
        queues=queues,
    )


def _last(last: LastBackup) -> dict[str, Any]:
    backup = last.backup
    return {
        "database": last.database,
        "backup_id": None if backup is None else str(backup.id),
        "created_at": None if backup is None else backup.created_at.isoformat(),
        "storage": None if backup is None else backup.storage,
        "verified": backup is not None and backup.verified,
        "captured_until": None if last.captured_until is None else last.captured_until.isoformat(),
        "recovery_point": None if last.point_at is None else last.point_at.isoformat(),
        "age_seconds": None if last.point_at is None else last.age_seconds,
        "target_seconds": last.target_seconds or None,
        "late": last.late,
        "readable": last.readable,
    }
