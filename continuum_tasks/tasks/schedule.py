"""The tasks of the timetable: ring again for what is due, and queue what the databases owe."""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta
from typing import Any

from celery import Task, shared_task

from continuum_tasks.backup.plan import admission
from continuum_tasks.capture.overview import capture_of
from continuum_tasks.capture.plan.assessment import has_nothing_new
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import ContinuumError, ProofFailed, StorageError
from continuum_tasks.history.chain import made_on, usable
from continuum_tasks.host import routing
from continuum_tasks.host.jobs import BY_COMMAND, Job, JobOptions, JsonValue
from continuum_tasks.model import Attestation, Backup, Level
from continuum_tasks.process import worker_id
from continuum_tasks.repository.documents import to_json
from continuum_tasks.runtime import Runtime
from continuum_tasks.schedule.plan import schedule
from continuum_tasks.schedule.plan.schedule import Duty
from continuum_tasks.tasks.shell import ring_row, runtime_of
from continuum_tasks.verify import verify
from continuum_tasks.verify.plan.sampling import pick_backups

RING_AGAIN_AFTER = timedelta(seconds=30)
RING_ANYWHERE_AGAIN_AFTER = timedelta(minutes=15)
KEEP_ENDED_FOR = timedelta(days=30)
AGAIN_AFTER = timedelta(minutes=15)
_log = logging.getLogger(__name__)
_NAMES = {Duty.VERIFY: "verify", Duty.TEST_RESTORE: "test-restore", Duty.DRILL: "drill"}

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
    unread = []
    for database in runtime.config.databases:
        try:
            runtime.index(database.storage)
        except StorageError as err:
            unread.append(err)
            continue
        for job in queue_due(runtime, database, now=runtime.site.clock.now()):
            _ring(self, runtime, job)
    if unread:
        raise unread[0]


def queue_due(runtime: Runtime, database: DatabaseConfig, *, now: datetime) -> list[Job]:
    """Queue what one database owes at `now`, unless it is being done, or failed minutes ago; returns the rows."""
    busy = {(job.database, job.kind) for job in runtime.jobs.unfinished()}
    # A backup is tried again each minute: every one counts. The rest may wait for what made it fail to pass.
    busy |= {(job.database, job.kind) for job in runtime.jobs.failed(now - AGAIN_AFTER) if job.kind != Duty.BACKUP}
    due = [one for one in _due(runtime, database, now) if (database.name, one.duty.value) not in busy]
    return [_add(runtime, database, one, now=now) for one in due]


def _due(runtime: Runtime, database: DatabaseConfig, now: datetime) -> tuple[schedule.Due, ...]:
    backups = made_on(runtime.config.host, runtime.catalog.backups(storage=database.storage, database=database.name))
    drills = [record for record in runtime.catalog.drills(database.storage) if record.database == database.name]
    rhythm = admission.rhythm_now(database.rhythm, backups)
    capture = capture_of(database, config=runtime.config, site=runtime.site)
    unchanged = capture is not None and has_nothing_new(capture, backups, now=now)
    found = schedule.due(schedule.History(backups=backups, rehearsals=drills, unchanged=unchanged), rhythm, now=now)
    refusal = admission.recent(backups, min_interval_seconds=database.min_interval_seconds, now=now)
    refusal = refusal or admission.failing(_runs(runtime, database), now=now)
    if refusal is not None and any(due.duty is Duty.BACKUP for due in found):
        _log.info("database %s: its scheduled backup waits: %s", database.name, refusal.text)
        return tuple(due for due in found if due.duty is not Duty.BACKUP)
    return found


def _runs(runtime: Runtime, database: DatabaseConfig) -> list[admission.EndedRun]:
    """Return how the workers' last backups of a database into its storage ended, newest first.

    Of what commands did in their own processes only failures have rows: three would hide a success between them.
    """
    ended = runtime.jobs.ended(Duty.BACKUP.value, database=database.name, limit=5 * admission.N_FAILURES)
    return [_run(job) for job in ended if job.args.get("storage") == database.storage and not job.args.get(BY_COMMAND)]


def _run(job: Job) -> admission.EndedRun:
    if job.error is None:
        return admission.EndedRun(at=job.updated_at)
    return admission.EndedRun(at=job.updated_at, error=job.error.name, transient=job.error.to_error().transient)


def _add(runtime: Runtime, database: DatabaseConfig, due: schedule.Due, *, now: datetime) -> Job:
    name = due.strategy.value if due.strategy is not None else _NAMES[due.duty]
    args = _arguments(runtime, database, due)
    options: JobOptions = {
        "id": f"due-{name}-{database.name}-{now:%Y%m%d%H%M}",
        "database": database.name,
        "priority": routing.BACKUP_PRIORITY if due.duty is Duty.BACKUP else routing.VERIFY_PRIORITY,
        # A drill that dies with its worker leaves no record, so it is due again: its row needs no second attempt.
        "max_attempts": 1 if due.duty in (Duty.DRILL, Duty.TEST_RESTORE) else runtime.config.backup.max_attempts,
    }
    job = runtime.jobs.add(due.duty.value, args, now=now, **options)
    drawn = due.duty in (Duty.DRILL, Duty.TEST_RESTORE)  # another beat may have drawn another backup
    if job.kind == due.duty.value and (drawn or job.args == args):
        return job
    _log.warning("job %s: its id is taken by other work; queued under another", job.id)
    del options["id"]
    return runtime.jobs.add(due.duty.value, args, now=now, **options)


def _arguments(runtime: Runtime, database: DatabaseConfig, due: schedule.Due) -> dict[str, JsonValue]:
    if due.strategy is not None:
        return {"database": database.name, "strategy": due.strategy.value, "storage": database.storage}
    backup = due.backup or _picked(runtime, database)
    args: dict[str, JsonValue] = {"backup_id": backup.id, "storage": database.storage}
    if due.duty is Duty.VERIFY:
        args |= {"level": Level.RESTORE.value, "each_link": due.each_link}
    return args


def _picked(runtime: Runtime, database: DatabaseConfig) -> Backup:
    backups = runtime.catalog.backups(storage=database.storage, database=database.name)
    points = usable(made_on(runtime.config.host, backups))
    drills = runtime.catalog.drills(database.storage)
    return pick_backups(points, drills, n=1, chance=random.Random(runtime.site.random_bytes(8)))[0]  # noqa: S311 - chance, no secret


def _ring(task: Task[Any, Any], runtime: Runtime, job: Job) -> None:
    if ring_row(task.app, runtime.config, job):
        runtime.jobs.mark_rung([job.id], now=runtime.site.clock.now())
