"""From the arguments of one unit of work to its typed result: the one way, for commands, workers and what capture needs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from continuum_tasks.assembly import fetch, seal
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.backup import create
from continuum_tasks.backup.choose_parent import BackupRequest
from continuum_tasks.capture import compact, compare_live
from continuum_tasks.errors import BackupNotFound
from continuum_tasks.host import job_kinds as kinds
from continuum_tasks.host.jobs import Job
from continuum_tasks.model import Backup, BackupId, Progress, Rehearsal, Strategy
from continuum_tasks.repository.documents import from_json
from continuum_tasks.restore import restore
from continuum_tasks.restore.online import Online, busy_window
from continuum_tasks.retention import expire
from continuum_tasks.runtime import Runtime
from continuum_tasks.verify import drill, verify

T = TypeVar("T")
Action = Generator[Progress, None, T]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What work gets beside its arguments: how it fans out, and the check that it still has its job, before its commit."""

    fan: Fan
    check_lease: Callable[[], None]


def local_context(runtime: Runtime) -> JobContext:
    """Return the context of work that has no row, and so nobody to lose it to."""
    return JobContext(fan=runtime.fan(), check_lease=lambda: None)


def act(work: Any, runtime: Runtime, context: JobContext) -> Action[Any]:
    """Do what these arguments (or a unit of a fan-out) say; yields progress, returns the result of their kind."""
    return _EXECUTORS[type(work)].act(work, runtime, context)


def decode_result(work: Any, result: Any) -> Any:
    """Return the result that the row of this work keeps, as `act` would have returned it."""
    return from_json(_EXECUTORS[type(work)].result, result)


def decode_row(job: Job) -> Any:
    """Return the arguments or the unit that a row keeps. Raises NewerFormat, JobFailed."""
    row = f"job {job.id}: {job.kind}"
    arguments = kinds.JOB_KINDS[job.kind].arguments
    if arguments is not None:
        return kinds.decode_arguments(arguments, job.args, row=row)
    unit = _UNITS[job.kind]
    kinds.check_known(unit, job.args, row=row)
    return from_json(unit, job.args)


def backup_request(runtime: Runtime, *, database: str, strategy: Strategy) -> BackupRequest:
    """Return what to back up; an empty name is the default database. Raises UsageError."""
    settings = runtime.config.database(database)
    is_default = settings.name == runtime.config.default_database
    return BackupRequest(database=settings, strategy=strategy, is_default=is_default)


def _create(work: kinds.CreateBackup, runtime: Runtime, context: JobContext) -> Action[create.Finished]:
    request = backup_request(runtime, database=work.database, strategy=work.strategy)
    repository = runtime.repository(work.storage or request.database.storage)
    return create.create_backup(
        request, repository=repository, site=runtime.site, fan=context.fan, check_lease=context.check_lease
    )


def _restore(work: kinds.RestoreBackup, runtime: Runtime, context: JobContext) -> Action[restore.Restored]:
    request = restore.RestoreRequest(
        backup_id=work.backup_id,
        target=Path(work.target),
        overwrite=work.overwrite,
        verify=work.verify,
        region=work.region,
        commit=work.point,
        online=_online(work, runtime),
    )
    there = runtime.in_region(work.region, storage=work.storage)
    fan = there.fan() if work.region else context.fan  # transfer workers would ask in the region of storage.conf
    return restore.restore_backup(
        request, repository=there.repository(work.storage), site=runtime.site, fan=fan, check_lease=context.check_lease
    )


def _online(work: kinds.RestoreBackup, runtime: Runtime) -> Online | None:
    if not work.online:
        return None
    window = busy_window(runtime.config, Path(work.target), work.database)
    return Online(busy_window_seconds=window, wait_writers=work.wait_writers)


def _verify(work: kinds.VerifyBackup, runtime: Runtime, context: JobContext) -> Action[verify.Verified]:
    """In threads of its own: the transfer pool is left to backups and restores."""
    request = verify.VerifyRequest(backup_id=work.backup_id, level=work.level, each_link=work.each_link)
    return verify.verify_backup_chain(
        request, repository=runtime.repository(work.storage), site=runtime.site, fan=runtime.fan()
    )


def _test_restore(work: kinds.RunTestRestore, runtime: Runtime, context: JobContext) -> Action[drill.Drilled]:
    return _rehearse(_find(runtime, work.backup_id, storage=work.storage), Rehearsal.TEST_RESTORE, runtime)


def _drill(work: kinds.RunDrill, runtime: Runtime, context: JobContext) -> Action[drill.Drilled]:
    return _rehearse(_find(runtime, work.backup_id, storage=work.storage), Rehearsal.DRILL, runtime)


def _rehearse(backup: Backup, kind: Rehearsal, runtime: Runtime) -> Action[drill.Drilled]:
    """In threads of its own, as a verification."""
    return drill.rehearse(
        drill.DrillRequest(backup=backup, kind=kind),
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


def _apply_retention(work: kinds.ApplyRetention, runtime: Runtime, context: JobContext) -> Action[expire.Applied]:
    settings = runtime.config.retention
    request = expire.RetentionRequest(
        database=work.database,
        policy=expire.policy_of(settings, aggressive=work.aggressive),
        by=work.by,
        pitr_window_seconds=settings.pitr_window_seconds,
    )
    return expire.apply_policy(
        request,
        repository=runtime.repository(work.storage),
        site=runtime.site,
        fan=context.fan,
        check_lease=context.check_lease,
    )


def _compact(work: kinds.CompactSegments, runtime: Runtime, context: JobContext) -> Action[compact.Compacted]:
    return compact.compact_segments(
        compact.CompactRequest(database=work.database),
        repository=runtime.repository(work.storage),
        site=runtime.site,
        check_lease=context.check_lease,
    )


def _prove_capture(work: kinds.ProveCapture, runtime: Runtime, context: JobContext) -> Action[compare_live.Proven]:
    database = runtime.config.database(work.database)
    return compare_live.prove_capture(database, repository=runtime.repository(work.storage), site=runtime.site)


def _seal(unit: seal.SealUnit, runtime: Runtime, context: JobContext) -> Action[Any]:
    yield Progress(phase=kinds.SEAL_CHUNK.word)
    return runtime.works()[kinds.SEAL_CHUNK.word].run(unit)


def _fetch(unit: fetch.FetchUnit, runtime: Runtime, context: JobContext) -> Action[Any]:
    yield Progress(phase=kinds.FETCH_CHUNK.word)
    return runtime.works()[kinds.FETCH_CHUNK.word].run(unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Executor:
    """What does one kind of work, and the type of its result."""

    act: Callable[[Any, Runtime, JobContext], Action[Any]]
    result: type


_UNITS: Mapping[str, type] = {kinds.SEAL_CHUNK.word: seal.SealUnit, kinds.FETCH_CHUNK.word: fetch.FetchUnit}
_EXECUTORS: Mapping[type, _Executor] = {
    kinds.CreateBackup: _Executor(act=_create, result=create.Finished),
    kinds.RestoreBackup: _Executor(act=_restore, result=restore.Restored),
    kinds.VerifyBackup: _Executor(act=_verify, result=verify.Verified),
    kinds.RunTestRestore: _Executor(act=_test_restore, result=drill.Drilled),
    kinds.RunDrill: _Executor(act=_drill, result=drill.Drilled),
    kinds.ApplyRetention: _Executor(act=_apply_retention, result=expire.Applied),
    kinds.CompactSegments: _Executor(act=_compact, result=compact.Compacted),
    kinds.ProveCapture: _Executor(act=_prove_capture, result=compare_live.Proven),
    seal.SealUnit: _Executor(act=_seal, result=seal.StoredChunk),
    fetch.FetchUnit: _Executor(act=_fetch, result=fetch.Fetched),
}
EXECUTED = frozenset(_EXECUTORS)
