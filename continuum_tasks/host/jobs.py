"""Durable job rows in `metadata.db`: the broker rings, the row decides who works, how often, and whether it may still commit.

A claim is one UPDATE that succeeds for exactly one process. It raises the row's fencing token, so a worker that lost its
lease is refused at its next step. A lease ends with its time, or at once when the process that holds it has died.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack

import apsw

from continuum_tasks.errors import ContinuumError, StaleClaim, error_from
from continuum_tasks.host.metadata import Metadata, open_metadata
from continuum_tasks.model import Progress
from continuum_tasks.process import holder_died, worker_id

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"

POOL_SILENT_SECONDS = 10  # five missed beats: a pool that is silent for longer does not count as serving
BY_COMMAND = "by_command"  # in the arguments of what a command did in its own process
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = (
    "id, kind, database, args, state, priority, attempts, max_attempts, token, lease_until, claimed_by, parent_id,"
    " phase, detail, n_bytes, total_bytes, result, error, rung_at, created_at, updated_at"
)
_SELECT = f"SELECT {_COLUMNS} FROM jobs "  # noqa: S608 (our own constant)
_CLAIM = f"""UPDATE jobs SET state='running', attempts=attempts+1, token=token+1, lease_until=?, claimed_by=?, rung_at=NULL,
    phase='', detail='', n_bytes=0, total_bytes=0, updated_at=? WHERE id=? AND attempts<max_attempts AND (state='queued'
    OR (state='running' AND (lease_until<=? OR (claimed_by=? AND token=?)))) RETURNING {_COLUMNS}"""  # noqa: S608


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class JobOptions(TypedDict, total=False):
    """What `add` may be told besides kind and arguments; without an id the job gets a fresh one."""

    id: str
    database: str
    priority: int
    max_attempts: int
    parent_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as a row keeps it."""

    name: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Describe an error: our own by name and hint, any other as JobFailed with its class in the message."""
        if isinstance(error, ContinuumError):
            return cls(name=type(error).__name__, message=error.message, hint=error.hint)
        return cls(name="JobFailed", message=f"{type(error).__name__}: {error}", hint="see the worker's log")

    def to_error(self) -> ContinuumError:
        """Return the error again, to be raised in the process that waited for the job."""
        return error_from(self.name, self.message, self.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row. `token` is the number of the latest claim; `n_bytes` of `total_bytes` are done in `phase`."""

    id: str
    kind: str
    database: str
    args: dict[str, JsonValue]
    state: JobState
    priority: int
    attempts: int
    max_attempts: int
    token: int
    lease_until: datetime | None
    claimed_by: str
    parent_id: str | None
    phase: str
    detail: str
    n_bytes: int
    total_bytes: int
    result: JsonValue
    error: Failure | None
    rung_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One worker pool as it last reported. `alive`: it beat within `POOL_SILENT_SECONDS` and its process exists."""

    pool: str
    host: str
    queue: str
    pid: int
    seen_at: datetime
    alive: bool


class Jobs:
    """The job rows of one host. Safe from several threads and processes; never carry one across a fork."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._transaction = metadata.transaction

    def close(self) -> None:
        self._metadata.close()

    def add(self, kind: str, args: Mapping[str, JsonValue], *, now: datetime, **options: Unpack[JobOptions]) -> Job:
        """Queue a job, or return the row that already has its id: adding it again changes nothing."""
        job_id = options.get("id") or f"job-{secrets.token_hex(8)}"
        database, parent_id = options.get("database", ""), options.get("parent_id")
        values = (
            job_id,
            kind,
            database,
            _dumps(dict(args)),
            options.get("priority", 3),
            options.get("max_attempts", 3),
            parent_id,
        )
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO jobs (id, kind, database, args, priority, max_attempts, parent_id, state, created_at,"
                " updated_at) VALUES (?,?,?,?,?,?,?,'queued',?,?)",
                (*values, _micros(now), _micros(now)),
            )
            return _job(connection.execute(_SELECT + "WHERE id=?", (job_id,)).fetchall()[0])

    def claim(self, job_id: str, worker: str, *, lease_seconds: float, now: datetime) -> Job | None:
        """Take the job for `worker` (see `worker_id`), or return None: held by another, ended, out of attempts, unknown."""
        with self._transaction() as connection:
            held = connection.execute("SELECT claimed_by, token FROM jobs WHERE id=? AND state='running'", (job_id,)).fetchone()
            dead = held if held is not None and holder_died(held[0]) else ("", -1)
            at = _micros(now)
            row = connection.execute(_CLAIM, (_lease(now, lease_seconds), worker, at, job_id, at, *dead)).fetchone()
        return None if row is None else _job(row)

    def renew(self, job_id: str, token: int, *, lease_seconds: float, now: datetime) -> None:
        """Extend the lease from `now`. Raises StaleClaim when the job is no longer this claim's."""
        self._change(job_id, token, "lease_until=?, updated_at=?", (_lease(now, lease_seconds), _micros(now)))

    def progress(self, job_id: str, token: int, *, progress: Progress, now: datetime) -> None:
        """Store how far the work has come; the lease stays as it is. Raises StaleClaim."""
        p = progress
        values = (p.phase, p.detail, p.n_bytes, p.total_bytes, _micros(now))
        self._change(job_id, token, "phase=?, detail=?, n_bytes=?, total_bytes=?, updated_at=?", values)

    def note(self, job_id: str, text: str) -> None:
        """Keep one line of what the work decided, for who follows it."""
        with self._transaction() as connection:
            connection.execute("INSERT INTO notes (job_id, text) VALUES (?,?)", (job_id, text))

    def notes(self, job_id: str, *, after: int = 0) -> list[tuple[int, str]]:
        """Return a job's notes with their numbers, oldest first, those beyond number `after`."""
        rows = self._metadata.rows(
            "SELECT number, text FROM notes WHERE job_id=? AND number>? ORDER BY number", (job_id, after)
        )
        return [(int(str(number)), str(text)) for number, text in rows]

    def finish(self, job_id: str, token: int, result: JsonValue, *, now: datetime) -> None:
        """End the job as done. Raises StaleClaim."""
        values = (_dumps(result), _micros(now))
        self._change(job_id, token, "state='done', result=?, error=NULL, lease_until=NULL, updated_at=?", values)

    def fail(self, job_id: str, token: int, error: Exception, *, retry: bool, now: datetime) -> None:
        """End the attempt with an error: queued again when `retry` and attempts are left, else failed. Raises StaleClaim."""
        state = "CASE WHEN ? AND attempts<max_attempts THEN 'queued' ELSE 'failed' END"
        values = (retry, _dumps_failure(Failure.of(error)), _micros(now))
        self._change(job_id, token, f"state={state}, error=?, lease_until=NULL, updated_at=?", values)

    def note_failed(self, kind: str, args: Mapping[str, JsonValue], error: Exception, *, database: str, now: datetime) -> None:
        """Keep that work which had no row, done by a command in its own process, failed. Nobody can claim it."""
        at = _micros(now)
        values = (f"here-{secrets.token_hex(8)}", kind, database, _dumps({**args, BY_COMMAND: True}))
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO jobs (id, kind, database, args, priority, attempts, max_attempts, state, error, created_at,"
                " updated_at) VALUES (?,?,?,?,3,1,1,'failed',?,?,?)",
                (*values, _dumps_failure(Failure.of(error)), at, at),
            )

    def cancel(self, job_id: str, *, reason: str, now: datetime) -> bool:
        """End a job and its children that have not ended, whoever holds them; their holders get StaleClaim next.

        Returns True when anything was still open.
        """
        failure = _dumps_failure(Failure(name="JobFailed", message=f"job {job_id}: {reason}"))
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state='failed', error=?, lease_until=NULL, updated_at=?"
                " WHERE (id=? OR parent_id=?) AND state IN ('queued','running')",
                (failure, _micros(now), job_id, job_id),
            )
            return connection.changes() > 0

    def cancel_queued(self, job_id: str, *, reason: str, now: datetime) -> bool:
        """End a job that nobody holds; one that somebody does goes on. Returns True when it was ended."""
        failure = _dumps_failure(Failure(name="JobFailed", message=f"job {job_id}: {reason}"))
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state='failed', error=?, updated_at=? WHERE id=? AND state='queued'",
                (failure, _micros(now), job_id),
            )
            return connection.changes() > 0

    def check_current(self, job_id: str, token: int) -> None:
        """Raise StaleClaim unless this claim is still the job's latest and running: asked right before a commit point."""
        row = self._metadata.rows("SELECT 1 FROM jobs WHERE id=? AND token=? AND state='running'", (job_id, token))
        if not row:
            raise _stale(job_id, token)

    def get(self, job_id: str) -> Job | None:
        """Return the row, or None when there is none (it may have been lost with `metadata.db`)."""
        rows = self._jobs("WHERE id=?", (job_id,))
        return rows[0] if rows else None

    def children(self, parent_id: str) -> tuple[Job, ...]:
        """Return the jobs a job fanned out to, by id."""
        return self._jobs("WHERE parent_id=? ORDER BY id", (parent_id,))

    def unfinished(self) -> tuple[Job, ...]:
        """Return what is queued or running, most urgent first."""
        return self._jobs("WHERE state IN ('queued','running') ORDER BY priority, created_at, id")

    def failed(self, since: datetime) -> tuple[Job, ...]:
        """Return the jobs that failed at or after that instant, the last first; parts of other jobs are not told."""
        rest = "WHERE state='failed' AND parent_id IS NULL AND updated_at>=? ORDER BY updated_at DESC, id"
        return self._jobs(rest, (_micros(since),))

    def due(self, now: datetime, *, not_rung_since: datetime | None = None) -> tuple[Job, ...]:
        """Return jobs anyone may claim now: queued, or held by an ended lease or a dead process, with attempts left.

        With `not_rung_since`, jobs rung at or after that instant are left out, so a long queue is not rung over and over.
        """
        found = (j for j in self.unfinished() if j.attempts < j.max_attempts and _claimable(j, now))
        if not_rung_since is None:
            return tuple(found)
        return tuple(j for j in found if j.rung_at is None or j.rung_at < not_rung_since)

    def ended(self, kind: str, *, database: str, limit: int) -> tuple[Job, ...]:
        """Return the last jobs of a kind for a database that ended, newest first, at most `limit`."""
        rest = (
            "WHERE kind=? AND database=? AND parent_id IS NULL AND state IN ('done','failed') ORDER BY updated_at DESC LIMIT ?"
        )
        return self._jobs(rest, (kind, database, limit))

    def mark_rung(self, job_ids: Sequence[str], *, now: datetime) -> None:
        """Note that the broker was told of these jobs; a claim forgets it."""
        with self._transaction() as connection:
            connection.executemany("UPDATE jobs SET rung_at=? WHERE id=?", [(_micros(now), job_id) for job_id in job_ids])

    def abandon(self, now: datetime) -> tuple[Job, ...]:
        """Fail the jobs whose last allowed attempt ended without a word, and return them."""
        spent = [j for j in self.unfinished() if j.attempts >= j.max_attempts and _claimable(j, now)]
        gone = []
        for job in spent:
            text = f"job {job.id}: {job.kind} stopped without a result in {job.attempts} of {job.max_attempts} attempts"
            failure = _dumps_failure(Failure(name="JobFailed", message=text, hint="see the worker's log, then run it again"))
            lease = None if job.lease_until is None else _micros(job.lease_until)
            gone += self._update(
                "state='failed', error=?, lease_until=NULL, updated_at=? WHERE id=? AND token=? AND lease_until IS ?",
                (failure, _micros(now), job.id, job.token, lease),
            )
        return tuple(gone)

    def forget(self, before: datetime) -> int:
        """Delete ended jobs last touched before that instant; returns how many."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM jobs WHERE state IN ('done','failed') AND updated_at<?", (_micros(before),))
            n_forgotten = connection.changes()
            connection.execute("DELETE FROM notes WHERE job_id NOT IN (SELECT id FROM jobs)")
            return n_forgotten

    def beat(self, pool: str, queue: str, *, host: str, now: datetime) -> None:
        """Report that this process serves `queue` as `pool` of `host`."""
        row = (pool, host, queue, os.getpid(), worker_id(host), _micros(now))
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO pools VALUES (?,?,?,?,?,?)", row)

    def leave(self, pool: str, *, host: str) -> None:
        """Report that this process serves no longer; a successor's report stays."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM pools WHERE pool=? AND process=?", (pool, worker_id(host)))

    def pools(self, now: datetime) -> tuple[Pool, ...]:
        """Return every pool that ever reported and did not leave, by name."""
        rows = self._metadata.rows("SELECT pool, host, queue, pid, seen_at, process FROM pools ORDER BY pool, host")
        oldest = now - timedelta(seconds=POOL_SILENT_SECONDS)
        return tuple(_pool(row, oldest) for row in rows)

    def is_served(self, queue: str, *, host: str, now: datetime) -> bool:
        """Tell whether a live pool of that host serves a queue."""
        return any(pool.alive and queue in pool.queue.split(",") and pool.host == host for pool in self.pools(now))

    def _change(self, job_id: str, token: int, assignments: str, values: tuple[apsw.SQLiteValue, ...]) -> None:
        if not self._update(f"{assignments} WHERE id=? AND token=? AND state='running'", (*values, job_id, token)):
            raise _stale(job_id, token)

    def _update(self, rest: str, values: tuple[apsw.SQLiteValue, ...]) -> list[Job]:
        # `rest` is always text of this module; values are bound.
        with self._transaction() as connection:
            return [_job(r) for r in connection.execute(f"UPDATE jobs SET {rest} RETURNING {_COLUMNS}", values).fetchall()]  # noqa: S608

    def _jobs(self, rest: str, values: tuple[apsw.SQLiteValue, ...] = ()) -> tuple[Job, ...]:
        return tuple(_job(row) for row in self._metadata.rows(_SELECT + rest, values))


def open_jobs(path: Path) -> Jobs:
    """Open the job rows in `metadata.db` at `path`, making the file (0600) and the tables when they are missing.

    Raises ConfigError when the directory cannot be written, IntegrityError when the file is damaged.
    """
    return Jobs(open_metadata(path))


def _claimable(job: Job, now: datetime) -> bool:
    if job.state is JobState.QUEUED or job.lease_until is None or job.lease_until <= now:
        return True
    return holder_died(job.claimed_by)


def _stale(job_id: str, token: int) -> StaleClaim:
    return StaleClaim(f"job {job_id}: claim {token} is no longer the current one", hint="another worker took over or it ended")


def _micros(at: datetime) -> int:
    if at.tzinfo is None:
        raise RuntimeError(f"{at!r} has no time zone")
    return (at - _EPOCH) // timedelta(microseconds=1)


def _lease(now: datetime, seconds: float) -> int:
    return _micros(now) + round(seconds * 1_000_000)


def _at(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _dumps(value: JsonValue) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _dumps_failure(failure: Failure) -> str:
    return _dumps({"name": failure.name, "message": failure.message, "hint": failure.hint})


def _job(row: apsw.SQLiteValues) -> Job:
    values: dict[str, Any] = dict(zip(_COLUMNS.replace(" ", "").split(","), row, strict=True))
    for name in ("lease_until", "rung_at", "created_at", "updated_at"):
        values[name] = None if values[name] is None else _at(values[name])
    for name in ("args", "result", "error"):
        values[name] = None if values[name] is None else json.loads(values[name])
    values["error"] = None if values["error"] is None else Failure(**values["error"])
    values["state"] = JobState(values["state"])
    return Job(**values)


def _pool(row: Any, oldest: datetime) -> Pool:
    pool, host, queue, pid, seen_at, process = row
    at = _at(seen_at)
    return Pool(pool=pool, host=host, queue=queue, pid=pid, seen_at=at, alive=at >= oldest and not holder_died(process))
