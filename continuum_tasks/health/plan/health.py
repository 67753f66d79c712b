"""Decide how healthy backups are: facts in, findings out. Pure.

`critical`: what is written now could not be brought back as promised. `warning`: something on the way to that.
`ok`: a line worth reading, nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from continuum_tasks.capture.plan.assessment import capture_findings
from continuum_tasks.findings import Finding, Severity, Trouble, critical, ok, rank, warning
from continuum_tasks.health.plan.protection import LATE, Protection, age_finding, last_backup, protection_findings
from continuum_tasks.units import show_bytes, show_seconds

FULL_DISK_BYTES = 64 * 1024 * 1024  # below this SQLite's own -wal and -journal are in danger


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """One live file. `sqlite_version` as SQLITE_VERSION_NUMBER of its last writer, 0 unknown; `problems` None = not checked."""

    name: str
    size_bytes: int = 0
    wal: bool = False
    remark: str = ""
    sqlite_version: int = 0
    free_bytes: int | None = None
    problems: tuple[str, ...] | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageState:
    """`used`: a database is backed up there or backups are known there; `need_bytes`: what its next fulls will take.

    `answered_at`: not asked now, because it answered then and gave no sign of trouble since.
    """

    name: str
    used: bool
    latency_seconds: float = 0.0
    free_bytes: int | None = None
    need_bytes: int = 0
    trouble: Trouble | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """Who serves one queue of this host, or beat."""

    subject: str
    alive: bool
    seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    embedded: bool
    trouble: Trouble | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    kind: str
    database: str
    at: datetime
    trouble: Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """One key: `configured` for new chains, needed by `n_backups`; `key_id` is empty where encryption is off."""

    key_id: str
    configured: bool
    n_backups: int
    trouble: Trouble | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFacts:
    """The temporary directory: `need_bytes` to stage the largest database, `free_bytes` None when it cannot be used."""

    path: str
    free_bytes: int | None
    need_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything `backup_findings` judges."""

    databases: tuple[DatabaseFacts, ...]
    protections: tuple[Protection, ...]
    storages: tuple[StorageState, ...]
    broker: BrokerFacts
    pools: tuple[PoolFacts, ...]
    failed_jobs: tuple[FailedJob, ...]
    keys: tuple[KeyFacts, ...]
    temp: SpaceFacts


def backup_findings(facts: Facts, *, now: datetime) -> tuple[Finding, ...]:
    """Judge whether everything written now can be brought back, and what stands between."""
    found: list[Finding] = []
    for protection in facts.protections:
        found += protection_findings(protection, now=now)
    for database in facts.databases:
        found += _source(database)
    found += [_storage(storage, now=now) for storage in facts.storages]
    found.append(_broker(facts.broker))
    found += [_pool(pool, now=now) for pool in facts.pools]
    found.append(_jobs(facts.failed_jobs))
    found += [_key(key) for key in facts.keys]
    found.append(_temp(facts.temp))
    return tuple(found)


def service_findings(
    databases: Sequence[DatabaseFacts], protections: Sequence[Protection], *, now: datetime
) -> tuple[Finding, ...]:
    """Judge whether the databases themselves are well. A late backup is a warning: no reason to take a service away."""
    found: list[Finding] = []
    for database in databases:
        found += _service(database)
    for protection in protections:
        last = last_backup(protection, now=now)
        of_it = [age_finding(last, protection.storage)]
        if protection.capture is not None:
            captured = capture_findings(protection.database, protection.capture, late=last.late, now=now)
            of_it += [finding for finding in captured if finding.severity is not Severity.OK]
        found += [replace(one, severity=min(one.severity, Severity.WARNING, key=rank)) for one in of_it]
    return tuple(found)


def has_wal_hazard(version: int) -> bool:
    """Tell whether that SQLite can corrupt a WAL database when two checkpoints race (fixed in 3.51.3, 3.50.7, 3.44.6)."""
    fixed = 3_050_007 <= version < 3_051_000 or 3_044_006 <= version < 3_045_000
    return 3_007_000 <= version <= 3_051_002 and not fixed


def _source(database: DatabaseFacts) -> Iterator[Finding]:
    subject = f"database {database.name}"
    if database.trouble is not None:
        yield _troubled(subject, database.trouble)
    elif database.wal and has_wal_hazard(database.sqlite_version):
        yield warning(
            subject,
            f"WAL mode, last written by SQLite {_version(database.sqlite_version)}, which can corrupt it when checkpoints race",
            "give the service SQLite 3.51.3 or newer (or 3.50.7, 3.44.6)",
        )
    if database.remark:
        yield warning(subject, database.remark, "docs/DATABASES.md says which file systems are known")


def _service(database: DatabaseFacts) -> Iterator[Finding]:
    subject = f"database {database.name}"
    if database.problems:
        more = f" and {len(database.problems) - 1} more" if len(database.problems) > 1 else ""
        text = f"quick_check: {database.problems[0]}{more}"
        yield critical(subject, text, "stop its writers, then `continuum backup list --verified-only` and restore")
    if database.trouble is not None:
        yield _troubled(subject, database.trouble)
        return
    if database.problems == ():
        yield ok(subject, f"opens, quick_check ok, {show_bytes(database.size_bytes)}")
    if database.free_bytes is None:
        return
    text = f"{show_bytes(database.free_bytes)} free on its disk"
    if database.free_bytes < FULL_DISK_BYTES:
        yield critical(subject, text, "free space there now: commits are about to fail")
    elif database.free_bytes < database.size_bytes:
        yield warning(subject, text, f"a restore beside it needs {show_bytes(database.size_bytes)}")
    else:
        yield ok(subject, text)


def _troubled(subject: str, trouble: Trouble) -> Finding:
    severity = Severity.WARNING if trouble.transient else Severity.CRITICAL
    return Finding(severity=severity, subject=subject, text=trouble.message, hint=trouble.hint)


def _storage(storage: StorageState, *, now: datetime) -> Finding:
    subject = f"storage {storage.name}"
    if storage.trouble is not None:
        severity = Severity.CRITICAL if storage.used else Severity.WARNING
        return Finding(severity=severity, subject=subject, text=storage.trouble.message, hint=storage.trouble.hint)
    text = f"reachable in {storage.latency_seconds * 1000:.0f} ms"
    if storage.answered_at is not None:
        text = f"{text} {show_seconds((now - storage.answered_at).total_seconds())} ago"
    if storage.free_bytes is None:
        return ok(subject, text)
    text = f"{text}, {show_bytes(storage.free_bytes)} free"
    need = f"the next full backups take about {show_bytes(storage.need_bytes)}"
    if storage.free_bytes < storage.need_bytes:
        return critical(subject, f"{text}; {need}", "free space there, or add capacity")
    if storage.free_bytes < 2 * storage.need_bytes:
        return warning(subject, f"almost full: {text}; {need}", "free space there, or add capacity")
    return ok(subject, text)


def _broker(broker: BrokerFacts) -> Finding:
    kind = "embedded" if broker.embedded else "configured"
    if broker.trouble is None:
        return ok("broker", f"{kind}, reachable, evicts nothing")
    return warning("broker", f"{kind}: {broker.trouble.message}", broker.trouble.hint)


def _pool(pool: PoolFacts, *, now: datetime) -> Finding:
    if pool.alive:
        return ok(pool.subject, "alive")
    seen = "" if pool.seen_at is None else f", last seen {show_seconds(max(0.0, (now - pool.seen_at).total_seconds()))} ago"
    return warning(pool.subject, f"not alive{seen}", "start it: `continuum up`, or the service that runs the workers")


def _jobs(failed: Sequence[FailedJob]) -> Finding:
    if not failed:
        return ok("jobs", "none failed in the last 24 h")
    last = max(failed, key=lambda job: job.at)
    what = f"{last.kind}{f' of {last.database}' if last.database else ''} at {last.at:%Y-%m-%d %H:%M:%S} UTC"
    text = f"{len(failed)} failed in the last 24 h, the last {what}: {last.trouble.message}"
    return warning("jobs", text, last.trouble.hint)


def _key(key: KeyFacts) -> Finding:
    if not key.key_id:
        return ok("encryption", "off: anyone who can read the storage can read every backup")
    subject = f"key {key.key_id}"
    uses = ["new backups are made with it"] if key.configured else []
    uses += [f"{key.n_backups} backups need it"] if key.n_backups else []
    if key.trouble is not None:
        return critical(subject, f"{key.trouble.message} ({', '.join(uses)})", key.trouble.hint)
    return ok(subject, f"present, {', '.join(uses)}")


def _temp(temp: SpaceFacts) -> Finding:
    subject = f"temp_dir {temp.path}"
    hint = "free space there, or set temp_dir in backup.conf to a larger disk"
    if temp.free_bytes is None:
        return critical(subject, "cannot be written", "make it writable for this user, or set temp_dir in backup.conf")
    text = f"{show_bytes(temp.free_bytes)} free, staging the largest database takes {show_bytes(temp.need_bytes)}"
    if temp.free_bytes < temp.need_bytes:
        return critical(subject, text, hint)
    return warning(subject, text, hint) if temp.free_bytes < LATE * temp.need_bytes else ok(subject, text)


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
