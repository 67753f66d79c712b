"""Queue what the databases owe: which rows, under which ids, how urgent, how often tried. The rows say what was queued."""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta

from continuum_tasks.backup.plan import admission
from continuum_tasks.capture.overview import capture_of
from continuum_tasks.capture.plan.assessment import has_nothing_new
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import ContinuumError
from continuum_tasks.history.chain import made_on, usable
from continuum_tasks.host import job_kinds as kinds
from continuum_tasks.host.audit_trail import TIMETABLE
from continuum_tasks.host.job_kinds import CREATE_BACKUP, JobArguments, encode_arguments, kind_of
from continuum_tasks.host.jobs import BY_COMMAND, Job, JobOptions, JobState
from continuum_tasks.model import Backup, Level
from continuum_tasks.retention.plan.retention import slot
from continuum_tasks.runtime import Runtime
from continuum_tasks.schedule.plan import schedule
from continuum_tasks.verify.plan.sampling import pick_backups

AGAIN_AFTER = timedelta(minutes=15)
_NAMES = {kinds.VERIFY_BACKUP: "verify", kinds.TEST_RESTORE: "test-restore", kinds.RUN_DRILL: "drill"}  # in the ids of rows

_log = logging.getLogger(__name__)


def queue_due(runtime: Runtime, database: DatabaseConfig, *, now: datetime) -> list[Job]:
    """Queue what one database owes at `now`, unless it is being done, or failed minutes ago; returns the rows."""
    busy = {(job.database, job.kind) for job in runtime.jobs.unfinished()}
    # A backup is tried again each minute: every one counts. The rest may wait for what made it fail to pass.
    busy |= {(job.database, job.kind) for job in runtime.jobs.failed(now - AGAIN_AFTER) if job.kind != CREATE_BACKUP.word}
    due = [one for one in _due(runtime, database, now) if (database.name, one.kind.word) not in busy]
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
    if refusal is not None and any(due.kind is CREATE_BACKUP for due in found):
        _log.info("database %s: its scheduled backup waits: %s", database.name, refusal.text)
        return tuple(due for due in found if due.kind is not CREATE_BACKUP)
    return found


def _runs(runtime: Runtime, database: DatabaseConfig) -> list[admission.EndedRun]:
    """Return how the workers' last backups of a database into its storage ended, newest first.

    Of what commands did in their own processes only failures have rows: three would hide a success between them.
    """
    ended = runtime.jobs.ended(CREATE_BACKUP.word, database=database.name, limit=5 * admission.N_FAILURES)
    return [_run(job) for job in ended if job.args.get("storage") == database.storage and not job.args.get(BY_COMMAND)]


def _run(job: Job) -> admission.EndedRun:
    if job.error is None:
        return admission.EndedRun(at=job.updated_at)
    return admission.EndedRun(at=job.updated_at, error=job.error.name, transient=job.error.to_error().transient)


def _add(runtime: Runtime, database: DatabaseConfig, due: schedule.Due, *, now: datetime) -> Job:
    name = due.strategy.value if due.strategy is not None else _NAMES[due.kind]
    work = _arguments(runtime, database, due)
    args = encode_arguments(work)
    options = _options(runtime, work, database.name, row_id=f"due-{name}-{database.name}-{now:%Y%m%d%H%M}")
    job = runtime.jobs.add(due.kind.word, args, now=now, **options)
    drawn = due.kind in (kinds.RUN_DRILL, kinds.TEST_RESTORE)  # another beat may have drawn another backup
    if job.kind == due.kind.word and (drawn or _says(job, work)):
        return job
    _log.warning("job %s: its id is taken by other work; queued under another", job.id)
    del options["id"]
    return runtime.jobs.add(due.kind.word, args, now=now, **options)


def _says(job: Job, work: JobArguments) -> bool:
    """Tell whether a row says the same; one that was queued by an older version may say so with more words."""
    try:
        return kinds.decode_arguments(type(work), job.args, row=f"job {job.id}") == work
    except ContinuumError:
        return False


def _options(runtime: Runtime, work: JobArguments, database: str, *, row_id: str) -> JobOptions:
    kind = kind_of(work)
    return {
        "id": row_id,
        "database": database,
        "priority": kind.priority,
        "max_attempts": 1 if kind.recurs else runtime.config.backup.max_attempts,
    }


def _arguments(runtime: Runtime, database: DatabaseConfig, due: schedule.Due) -> JobArguments:
    if due.strategy is not None:
        return kinds.CreateBackup(database=database.name, strategy=due.strategy, storage=database.storage)
    backup_id, storage = (due.backup or _picked(runtime, database)).id, database.storage
    if due.kind is kinds.VERIFY_BACKUP:
        return kinds.VerifyBackup(backup_id=backup_id, storage=storage, level=Level.RESTORE, each_link=due.each_link)
    rehearsal = kinds.RunDrill if due.kind is kinds.RUN_DRILL else kinds.RunTestRestore
    return rehearsal(backup_id=backup_id, storage=storage)


def _picked(runtime: Runtime, database: DatabaseConfig) -> Backup:
    backups = runtime.catalog.backups(storage=database.storage, database=database.name)
    points = usable(made_on(runtime.config.host, backups))
    drills = runtime.catalog.drills(database.storage)
    return pick_backups(points, drills, n=1, chance=random.Random(runtime.site.random_bytes(8)))[0]  # noqa: S311 - chance, no secret


def queue_retention(runtime: Runtime, *, now: datetime) -> list[Job]:
    """Queue each database's run of the day in each storage that holds backups of it; returns the rows nobody rang for yet.

    A row is the record: who looks twice finds it, a missed run is made up for, and only one that failed is queued again, once
    an hour.
    """
    rows = [_retention_row(runtime, database, storage, now=now) for database, storage in retention_pairs(runtime)]
    return [job for job in rows if job.state is JobState.QUEUED and job.rung_at is None]


def retention_pairs(runtime: Runtime, *, database: str = "", storage: str = "") -> list[tuple[str, str]]:
    """Return each declared database with each storage that holds backups of it; empty names mean all.

    What another host backs up is that host's to expire.
    """
    held = {(b.database, b.storage) for b in made_on(runtime.config.host, runtime.catalog.backups())}
    databases = [d.name for d in runtime.config.databases if database in ("", d.name)]
    storages = [s.name for s in runtime.config.storages if storage in ("", s.name)]
    return [(d, s) for d in databases for s in storages if (d, s) in held]


def _retention_row(runtime: Runtime, database: str, storage: str, *, now: datetime) -> Job:
    work = kinds.ApplyRetention(database=database, storage=storage, aggressive=False, by=TIMETABLE)
    name = f"due-retention-{database}-{storage}-{slot(now)}"
    first = _add_retention(runtime, work, row_id=name, now=now)
    return _add_retention(runtime, work, row_id=f"{name}-{now:%H}", now=now) if first.state is JobState.FAILED else first


def _add_retention(runtime: Runtime, work: kinds.ApplyRetention, *, row_id: str, now: datetime) -> Job:
    options = _options(runtime, work, work.database, row_id=row_id)
    return runtime.jobs.add(kind_of(work).word, encode_arguments(work), now=now, **options)
