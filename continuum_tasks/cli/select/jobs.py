"""Backups that are not there, or not yet: the job rows of this host that failed, or that are queued or running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from continuum_tasks.cli.frame import output
from continuum_tasks.cli.frame.context import cli_context
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.errors import UsageError
from continuum_tasks.host.job_kinds import CREATE_BACKUP
from continuum_tasks.host.jobs import Job
from continuum_tasks.runtime import Runtime

FAILED, RUNNING = "failed", "running"
STATUSES = (FAILED, RUNNING)
_EVER = datetime(1970, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The words of `list`; None and empty names mean all."""

    verified_only: bool
    status: str | None
    since: datetime | None
    before: datetime | None
    strategy: str | None
    database: str
    storage: str
    limit: int | None
    n_random: int | None


def find_attempts(runtime: Runtime, wanted: Filter) -> list[Job]:
    """Return the rows of backups that failed, or that are queued or running, the last first. Raises UsageError."""
    if wanted.verified_only or wanted.n_random is not None:
        raise UsageError(f"--status {wanted.status} lists attempts: remove --verified-only and --random")
    if wanted.status == FAILED:
        jobs: Sequence[Job] = runtime.jobs.failed(wanted.since or _EVER)
    else:
        jobs = runtime.jobs.unfinished()
    found = [job for job in jobs if job.kind == CREATE_BACKUP.word and _fits(job, wanted)]
    return sorted(found, key=lambda job: (job.updated_at, job.id), reverse=True)[: wanted.limit]


def show_attempts(jobs: Sequence[Job]) -> None:
    """Print attempts."""
    if cli_context().as_json:
        output.print_document([_fields(job) for job in jobs])
        return
    if not jobs:
        output.print_text("no backups")
        return
    columns = [TableColumn(title=title) for title in ("strategy", "database", "begun (utc)", "status", "tries")]
    print_table([*columns, TableColumn(title="job, and what happened", folds=True)], [_row(job) for job in jobs])


def _fits(job: Job, wanted: Filter) -> bool:
    at = job.updated_at if wanted.status == FAILED else job.created_at
    return (
        wanted.database in ("", job.database)
        and wanted.strategy in (None, job.args.get("strategy"))
        and wanted.storage in ("", job.args.get("storage"))
        and (wanted.since is None or at >= wanted.since)
        and (wanted.before is None or job.created_at < wanted.before)
    )


def _fields(job: Job) -> dict[str, Any]:
    error = None if job.error is None else {"name": job.error.name, "message": job.error.message, "hint": job.error.hint}
    return {
        "backup_id": None,
        "strategy": job.args.get("strategy"),
        "status": job.state.value,
        "job_id": job.id,
        "database": job.database,
        "storage": job.args.get("storage"),
        "created_at": job.created_at.isoformat(),
        "updated_at": job.updated_at.isoformat(),
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "phase": job.phase or None,
        "error": error,
    }


def _row(job: Job) -> list[str]:
    share = f" {100 * job.n_bytes // job.total_bytes} %" if job.total_bytes else ""
    said = f": {job.error.message}" if job.error is not None else f": {job.phase}{share}" if job.phase else ""
    return [
        str(job.args.get("strategy")),
        job.database,
        output.moment(job.created_at),
        job.state.value,
        f"{job.attempts} of {job.max_attempts}",
        f"{job.id}{said}",
    ]
