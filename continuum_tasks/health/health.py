"""Look at everything a restore depends on, and at the databases themselves. What cannot be looked at is a finding too."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import apsw

from continuum_tasks.config import Config, DatabaseConfig, StorageConfig
from continuum_tasks.errors import ContinuumError, ObjectMissing, StorageDenied, StorageUnreachable
from continuum_tasks.findings import Finding, Severity, Trouble, worst
from continuum_tasks.health import recent_answers
from continuum_tasks.health.plan.health import (
    BrokerFacts,
    DatabaseFacts,
    Facts,
    FailedJob,
    KeyFacts,
    PoolFacts,
    SpaceFacts,
    StorageState,
    backup_findings,
    service_findings,
)
from continuum_tasks.health.plan.protection import LastBackup, Protection, last_backup
from continuum_tasks.health.recovery_points import protections
from continuum_tasks.host import measure, reindex
from continuum_tasks.host.jobs import Failure, Job, Jobs, Pool
from continuum_tasks.host.metrics import Sample
from continuum_tasks.host.site import HostContext
from continuum_tasks.keyring import Keyring
from continuum_tasks.model import Backup, BackupStatus, Cipher, Strategy
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite import check, live, vfs
from continuum_tasks.sqlite.inspect import DatabaseSource, inspect
from continuum_tasks.sqlite.snapshot import StageLimits, stage_copy

STORAGE_SECONDS = 15.0  # a storage that says nothing for so long counts as unreachable, whatever it is still trying
STAGE_MARGIN_BYTES = 16 * 1024 * 1024
FAILED_WITHIN = timedelta(hours=24)
# A check of a rollback-journal database keeps its writers waiting, and they give up after 5 s: beyond this size, which
# takes 0.1 to 1 s, a private copy is checked instead.
CHECK_IN_PLACE_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthInputs:
    """What is looked at. `check_broker` raises BrokerError; `queues` is what each pool of this host should serve.

    A pool with an empty queue, as beat, is known by its name. A storage that answered within `ask_after` and gave no sign of
    trouble since is not asked.
    """

    config: Config
    site: HostContext
    jobs: Jobs
    keyring: Keyring
    repository: Callable[[str], Repository]
    check_broker: Callable[[], None]
    queues: Mapping[str, str]
    ask_after: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What was found at `at`: the worst severity, the age of each database's last usable backup, every finding."""

    at: datetime
    severity: Severity
    last_backups: tuple[LastBackup, ...]
    findings: tuple[Finding, ...]


def check_health(around: HealthInputs) -> HealthReport:
    """Look at everything backups and restores depend on; only reads. Raises ConfigError, IntegrityError for metadata.db."""
    now = around.site.clock.now()
    resting = _resting(around)
    storages = _storages(around, resting)
    answering = {storage.name for storage in storages if storage.trouble is None}
    backups = around.site.catalog.backups()  # only now: a lost catalog has been read again from the storages
    rehearsed = [_rehearsed(one, around.site) for one in protections(around.config, backups, site=around.site)]
    found = [_proven(one, around, answering, now=now) if _is_asked(one, resting, now) else one for one in rehearsed]
    _note_answers(storages, found, around, now=now)
    databases = tuple(_database(database, around.site, checked=False) for database in around.config.databases)
    facts = Facts(
        databases=databases,
        protections=tuple(found),
        storages=tuple(_with_need(s, databases, around.config, backups=backups) for s in storages),
        broker=BrokerFacts(embedded=around.config.broker.url is None, trouble=_trouble_of(around.check_broker)),
        pools=_pools(around, now=now),
        failed_jobs=tuple(_failed(job) for job in around.jobs.failed(now - FAILED_WITHIN)),
        keys=_keys(around, backups),
        temp=_temp(around.site.temp_dir, databases),
    )
    return _report(found, backup_findings(facts, now=now), now=now)


def run_service(around: HealthInputs) -> HealthReport:
    """Look at the databases as the service sees them: each opens, passes quick_check, has space and a recent backup."""
    now = around.site.clock.now()
    if not all(around.site.catalog.is_indexed(storage.name) for storage in around.config.storages):
        _storages(around, {})
    databases = tuple(_database(database, around.site, checked=True) for database in around.config.databases)
    found = protections(around.config, around.site.catalog.backups(), site=around.site)
    return _report(found, service_findings(databases, found, now=now), now=now)


def _report(found: Sequence[Protection], findings: tuple[Finding, ...], *, now: datetime) -> HealthReport:
    return HealthReport(
        at=now,
        severity=worst(findings),
        last_backups=tuple(last_backup(protection, now=now) for protection in found),
        findings=findings,
    )


def _rehearsed(protection: Protection, site: HostContext) -> Protection:
    names = {backup.storage for backup in protection.backups}
    records = [record for name in names for record in site.catalog.drills(name) if record.database == protection.database]
    return replace(protection, rehearsal=max(records, key=lambda record: record.at, default=None))


def _proven(protection: Protection, around: HealthInputs, answering: set[str], *, now: datetime) -> Protection:
    """Read the manifest of the last usable backup: the storage is the truth, and the signature proves the key."""
    last = last_backup(protection, now=now).backup
    if last is None:
        return protection
    if last.storage not in answering:
        text = f"{last.id} cannot be read now: its storage {last.storage} has a problem"
        return replace(protection, trouble=Trouble(message=text, hint=f"see storage {last.storage}"))
    manifest = _asked(lambda: around.repository(last.storage).read_manifest(last.database, last.id))
    return replace(protection, trouble=_answer(manifest, last.storage) if isinstance(manifest, ContinuumError | None) else None)


def _resting(around: HealthInputs) -> dict[str, Sample]:
    if not around.ask_after:
        return {}
    known = protections(around.config, around.site.catalog.backups(), site=around.site)
    return recent_answers.lately(around.config.storages, known, site=around.site, jobs=around.jobs, within=around.ask_after)


def _is_asked(protection: Protection, resting: Mapping[str, Sample], now: datetime) -> bool:
    last = last_backup(protection, now=now).backup
    return last is None or last.storage not in resting


def _note_answers(
    storages: Sequence[StorageState], found: Sequence[Protection], around: HealthInputs, *, now: datetime
) -> None:
    """Keep which storages were asked and are well: those, and what rests there, need not be looked at again soon."""
    lasts = [last_backup(protection, now=now) for protection in found]
    bad = {last.backup.storage for last in lasts if last.backup is not None and not last.readable}
    for storage in storages:
        if storage.trouble is None and storage.answered_at is None and storage.name not in bad:
            measure.answered(storage.name, storage.latency_seconds, site=around.site)


def _storages(around: HealthInputs, resting: Mapping[str, Sample]) -> list[StorageState]:
    """Ask every declared storage that does not rest at once, so that one that hangs costs `STORAGE_SECONDS` in all."""
    known = Counter(backup.storage for backup in around.site.catalog.backups())
    waits = [
        _ask(lambda name=storage.name: _look(name, around, resting.get(name)))  # type: ignore[misc]
        for storage in around.config.storages
    ]
    deadline = around.site.clock.monotonic() + STORAGE_SECONDS
    found = []
    for storage, wait in zip(around.config.storages, waits, strict=True):
        answer = wait(max(0.0, deadline - around.site.clock.monotonic()))
        used = bool(known[storage.name]) or any(d.storage == storage.name for d in around.config.databases)
        facts = StorageState(name=storage.name, used=used)
        if isinstance(answer, _Looked):
            facts = replace(facts, latency_seconds=answer.latency_seconds, free_bytes=answer.free_bytes)
            if storage.name in resting:
                facts = replace(facts, answered_at=resting[storage.name].at)
            facts = replace(facts, trouble=_index(storage.name, known[storage.name], around, empty=answer.empty))
        else:
            facts = replace(facts, trouble=_answer(answer, storage.name))
        found.append(facts)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    latency_seconds: float
    free_bytes: int | None
    empty: bool


def _look(name: str, around: HealthInputs, last: Sample | None) -> _Looked:
    if last is not None:
        return _Looked(latency_seconds=last.value, free_bytes=_free_bytes(around.config.storage(name)), empty=False)
    repository = around.repository(name)
    begun = around.site.clock.monotonic()
    try:
        repository.identity()
        empty = False
    except ObjectMissing:
        empty = True
    latency_seconds = around.site.clock.monotonic() - begun
    return _Looked(latency_seconds=latency_seconds, free_bytes=_free_bytes(around.config.storage(name)), empty=empty)


def _free_bytes(storage: StorageConfig) -> int | None:
    """Return the free space of a local storage; asking the storage itself would write into it. Raises StorageDenied."""
    if storage.path is None:
        return None
    free = _writable_bytes(storage.path)
    if free is None:
        hint = "check its owner, its mode, and whether its disk is mounted read-only"
        raise StorageDenied(f"storage {storage.name}: {storage.path} cannot be written", hint=hint)
    return free


def _index(name: str, n_known: int, around: HealthInputs, *, empty: bool) -> Trouble | None:
    """Read a storage the catalog has never seen; say when one that held backups holds nothing any more."""
    if empty and n_known:
        return Trouble(
            message=f"storage {name}: empty, although {n_known} backups are catalogued",
            hint="is its disk mounted? if they are really gone: continuum backup reindex",
        )
    if around.site.catalog.is_indexed(name):
        return None
    return _trouble_of(lambda: reindex.reindex_storage(around.repository(name), site=around.site))


def _with_need(
    storage: StorageState, databases: Sequence[DatabaseFacts], config: Config, *, backups: Sequence[Backup]
) -> StorageState:
    """Add what the next full of every database kept there will take: as much as its last full did, else its size."""
    need_bytes = 0
    for settings, facts in zip(config.databases, databases, strict=True):
        if settings.storage == storage.name:
            fulls = [
                b for b in backups if b.strategy is Strategy.FULL and (b.storage, b.database) == (storage.name, settings.name)
            ]
            need_bytes += fulls[0].stored_size_bytes if fulls else facts.size_bytes
    return replace(storage, need_bytes=need_bytes)


def _database(database: DatabaseConfig, site: HostContext, *, checked: bool) -> DatabaseFacts:
    facts = DatabaseFacts(name=database.name)
    try:
        source = inspect(database.path, accepted=database.accept_file_system)
        facts = replace(
            facts,
            size_bytes=source.size_bytes + source.wal_bytes,
            wal=source.wal,
            remark=source.remark,
            sqlite_version=int.from_bytes(vfs.read_start(source.path, 100)[96:100], "big"),
            free_bytes=shutil.disk_usage(source.path.parent).free,
        )
        problems = _problems(source, database, site) if checked else None
    except ContinuumError as err:
        return replace(facts, trouble=_trouble(err))
    except (apsw.Error, OSError) as err:
        message = f"{database.path}: cannot be looked at: {err}"
        return replace(facts, trouble=Trouble(message=message, hint="check the disk, permissions and temp_dir"))
    return replace(facts, problems=problems)


def _problems(source: DatabaseSource, database: DatabaseConfig, site: HostContext) -> tuple[str, ...]:
    if source.wal or source.size_bytes <= CHECK_IN_PLACE_BYTES:
        return live.quick_check(source.path)
    limits = StageLimits(busy_timeout_seconds=database.busy_timeout_seconds, busy_window_seconds=database.busy_window_seconds)
    with site.scratch() as scratch, stage_copy(source, scratch, limits=limits, clock=site.clock) as staged:
        return (*staged.damaged, *check.quick_check_file(staged.path))


def _pools(around: HealthInputs, *, now: datetime) -> tuple[PoolFacts, ...]:
    reported = around.jobs.pools(now)
    return tuple(_pool(name, queue, reported) for name, queue in around.queues.items())


def _pool(name: str, queue: str, reported: Sequence[Pool]) -> PoolFacts:
    serving = [p for p in reported if (queue in p.queue.split(",") if queue else p.pool == name)]
    return PoolFacts(
        subject=f"queue {queue}" if queue else name,
        alive=any(pool.alive for pool in serving),
        seen_at=max((pool.seen_at for pool in serving), default=None),
    )


def _failed(job: Job) -> FailedJob:
    error = job.error or Failure(name="JobFailed", message="failed")
    trouble = Trouble(message=error.message, hint=error.hint)
    return FailedJob(kind=job.kind, database=job.database, at=job.updated_at, trouble=trouble)


def _keys(around: HealthInputs, backups: Sequence[Backup]) -> tuple[KeyFacts, ...]:
    uses = Counter(b.key_id for b in backups if b.status is BackupStatus.COMPLETED and b.key_id)
    settings = around.config.backup
    configured = "" if settings.encryption is Cipher.NONE else settings.encryption_key_id
    return tuple(
        KeyFacts(
            key_id=key_id,
            configured=key_id == configured,
            n_backups=uses[key_id],
            trouble=_trouble_of(lambda key_id=key_id: around.keyring.fingerprint(key_id)) if key_id else None,  # type: ignore[misc]
        )
        for key_id in (configured, *sorted(set(uses) - {configured}))
    )


def _temp(temp_dir: Path, databases: Sequence[DatabaseFacts]) -> SpaceFacts:
    need_bytes = max((facts.size_bytes for facts in databases), default=0) + STAGE_MARGIN_BYTES
    return SpaceFacts(path=str(temp_dir), free_bytes=_writable_bytes(temp_dir), need_bytes=need_bytes)


def _writable_bytes(directory: Path) -> int | None:
    """Return what is free in a directory, or where it will be made; None when this user cannot write there."""
    try:
        existing = next(path for path in (directory, *directory.parents) if path.exists())
    except PermissionError:  # to go through a directory above it
        return None
    usable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return shutil.disk_usage(existing).free if usable else None


def _trouble(err: ContinuumError) -> Trouble:
    return Trouble(message=err.message, hint=err.hint, transient=err.transient)


def _trouble_of(call: Callable[[], object]) -> Trouble | None:
    try:
        call()
    except ContinuumError as err:
        return _trouble(err)
    return None


def _answer(error: ContinuumError | None, storage: str) -> Trouble:
    silent = f"storage {storage}: no answer in {STORAGE_SECONDS:.0f} s"
    return _trouble(error or StorageUnreachable(silent, hint="run `continuum backup test-storage`"))


def _asked(call: Callable[[], T]) -> T | ContinuumError | None:
    return _ask(call)(STORAGE_SECONDS)


def _ask(call: Callable[[], T]) -> Callable[[float], T | ContinuumError | None]:
    """Begin a call in a thread of its own; what is returned waits so many seconds for its result or error, else None.

    A thread that hangs keeps neither the command nor a worker from ending.
    """
    answers: SimpleQueue[T | ContinuumError] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(call())
        except ContinuumError as err:
            answers.put(err)

    def wait(seconds: float) -> T | ContinuumError | None:
        try:
            return answers.get(timeout=seconds)
        except Empty:
            return None

    threading.Thread(target=ask, name="health", daemon=True).start()
    return wait
