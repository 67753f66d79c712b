"""The tasks of the timetable: ring again for what is due, and queue what the databases owe."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from celery import Task, shared_task

from continuum_tasks.actions import verify
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import ContinuumError, ProofFailed, StorageError
from continuum_tasks.jobs import Job, JobOptions, JsonValue
from continuum_tasks.manifest import to_json
from continuum_tasks.model import Attestation, Level
from continuum_tasks.plan import schedule
from continuum_tasks.process import worker_id
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks import routing
from continuum_tasks.tasks.shell import ring_row, runtime_of

RING_AGAIN_AFTER = timedelta(seconds=30)
RING_ANYWHERE_AGAIN_AFTER = timedelta(minutes=15)
KEEP_ENDED_FOR = timedelta(days=30)

_log = logging.getLogger(__name__)


@shared_task(name=routing.RECONCILE, bind=True, ignore_result=True)
def reconcile(self: Task[Any, Any]) -> None:
    """Ring for rows the broker forgot or whose worker died, fail those out of attempts, forget old ones."""
    runtime = runtime_of(self)
    now = runtime.site.clock.now()
    runtime.jobs.abandon(now)
    runtime.jobs.forget(now - KEEP_ENDED_FOR)
    for job in runtime.jobs.due(now, not_rung_since=now - RING_AGAIN_AFTER):
        if job.kind != "verify_backup" or (not _is_settled(runtime, job, now) and _is_forgotten(job, now)):
            _ring(self, runtime, job)


def _is_forgotten(job: Job, now: datetime) -> bool:
    """Tell whether nobody can still be at it: a helping machine's worker leaves no trace here but its verdict."""
    return job.rung_at is None or now - job.rung_at > RING_ANYWHERE_AGAIN_AFTER


def _is_settled(runtime: Runtime, job: Job, now: datetime) -> bool:
    """As `_settled_elsewhere`; a storage that cannot be asked answers no, and the rows behind this one have their turn."""
    try:
        return _settled_elsewhere(runtime, job, now)
    except ContinuumError as err:
        _log.warning("job %s: cannot look for a verdict: %s", job.id, err.message)
        return False


def _settled_elsewhere(runtime: Runtime, job: Job, now: datetime) -> bool:
    """End the row of a verification whose verdict another machine has stored beside the backup since."""
    if job.rung_at is None:
        return False
    backup_id, repository = str(job.args["backup_id"]), runtime.repository(str(job.args["storage"]))
    # A row that a message made names no database.
    database = job.database or runtime.catalog.find(backup_id, storage=repository.name).database
    for _, verdict in repository.attestations(database, backup_id):
        if isinstance(verdict, Attestation) and verdict.level == job.args["level"] and verdict.at >= job.created_at:
            backup = runtime.catalog.find(backup_id, storage=repository.name)
            return _settle(runtime, job, verify.Verified(backup=backup, attestation=verdict), now)
    return False


def _settle(runtime: Runtime, job: Job, verified: verify.Verified, now: datetime) -> bool:
    claimed = runtime.jobs.claim(job.id, worker_id(runtime.config.host), lease_seconds=RING_AGAIN_AFTER.seconds, now=now)
    if claimed is None:
        return False
    runtime.catalog.attest(verified.backup.storage, verified.attestation)
    if verified.attestation.passed:
        runtime.jobs.finish(job.id, claimed.token, to_json(verified), now=now)
    else:
        error = ProofFailed(f"backup {verified.backup.id}: {'; '.join(verified.attestation.findings)}")
        runtime.jobs.fail(job.id, claimed.token, error, retry=False, now=now)
    return True


@shared_task(name=routing.SCHEDULE_DUE, bind=True, ignore_result=True)
def schedule_due(self: Task[Any, Any]) -> None:
    """Queue what each database owes now. Ids name the minute, so two beats queue it once.

    Raises the first error of a storage that cannot be asked, after every other database had its turn.
    """
    runtime = runtime_of(self)
    unread: list[StorageError] = []
    for database in runtime.config.databases:
        try:
            runtime.index(database.storage)
        except StorageError as err:
            unread.append(err)
            continue
        _queue_due(self, runtime, database)
    if unread:
        raise unread[0]


def _queue_due(task: Task[Any, Any], runtime: Runtime, database: DatabaseConfig) -> None:
    now = runtime.site.clock.now()
    busy = {(job.database, job.kind) for job in runtime.jobs.unfinished()}
    for due in _due(runtime, database, now):
        kind = "verify_backup" if due.verify is not None else "create_backup"
        if (database.name, kind) not in busy:
            _ring(task, runtime, _add(runtime, database, due, now=now))


def _due(runtime: Runtime, database: DatabaseConfig, now: datetime) -> tuple[schedule.Due, ...]:
    rhythm = schedule.Rhythm(
        full_every_seconds=database.full_every_seconds,
        incremental_every_seconds=database.incremental_every_seconds,
        verify_every_seconds=database.verify_every_seconds,
    )
    backups = runtime.catalog.backups(storage=database.storage, database=database.name)
    return schedule.due(backups, rhythm, now=now)


def _add(runtime: Runtime, database: DatabaseConfig, due: schedule.Due, *, now: datetime) -> Job:
    options: JobOptions = {"database": database.name, "max_attempts": runtime.config.backup.max_attempts}
    minute = f"{now:%Y%m%d%H%M}"
    args: dict[str, JsonValue]
    if due.verify is not None:
        kind = "verify_backup"
        args = {"backup_id": due.verify.id, "level": Level.RESTORE.value, "storage": database.storage}
        options |= {"id": f"due-verify-{database.name}-{minute}", "priority": routing.VERIFY_PRIORITY}
    else:
        assert due.strategy is not None
        kind = "create_backup"
        args = {"database": database.name, "strategy": due.strategy.value, "storage": database.storage}
        options |= {"id": f"due-{due.strategy}-{database.name}-{minute}", "priority": routing.BACKUP_PRIORITY}
    job = runtime.jobs.add(kind, args, now=now, **options)
    if (job.kind, job.args) == (kind, args):
        return job
    _log.warning("job %s: its id is taken by other work; queued under another", job.id)
    del options["id"]
    return runtime.jobs.add(kind, args, now=now, **options)


def _ring(task: Task[Any, Any], runtime: Runtime, job: Job) -> None:
    if ring_row(task.app, runtime.config, job):
        runtime.jobs.mark_rung([job.id], now=runtime.site.clock.now())
