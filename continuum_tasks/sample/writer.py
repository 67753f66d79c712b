"""Write to a `memory.db` as the service does: many short connections, one transaction each, most of them a few rows.

What transaction n writes depends on the seed, on n and on the rows it finds, never on a clock. So `n` more commits on a copy of
the start give the very state the live database had after `n` commits, and the oracle can tell which committed state a file is.
The number of the last commit is `max(sequence)` of `thinking_snapshots`, from which nothing is ever deleted.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from continuum_tasks.sample import rows, text
from continuum_tasks.sample.rows import Palette, build

_N_LINKS_A_COMMIT = 4  # links strengthened in place
_SLICE_SECONDS = 0.05  # how soon a stop is noticed
_RETRY_SECONDS = 0.01  # some locks refuse at once, without waiting for the timeout
_LATE_SECONDS = 1.0  # a service that was held up drops the arrears instead of bursting


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePlan:
    """How long and how fast: `seconds` and `commits` of None mean no limit, `rate` is in commits a second."""

    rate: float
    seconds: float | None = None
    commits: int | None = None
    seed: int = 1
    busy_timeout_seconds: float = 5.0  # what the service gets from a bare sqlite3.connect


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One committed transaction: how long it took from the first attempt on, and how often it met 'database is locked'."""

    sequence: int
    took_seconds: float
    n_locked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteReport:
    """What a run of the writer came to; `longest` is the commit that took longest."""

    n_commits: int = 0
    first_sequence: int | None = None
    last_sequence: int | None = None
    longest: Commit | None = None
    n_locked: int = 0


def write(path: Path, plan: WritePlan, *, stopped: Callable[[], bool] = lambda: False) -> Iterator[Commit]:
    """Commit at the planned rate and yield each commit once it is durable, until the plan ends or `stopped()` is true.

    Raises sqlite3.OperationalError for anything but a lock: a missing file, one that is not a sample, a full disk.
    """
    rng = text.seeded("writer", plan.seed)
    palette = Palette(rng=rng, lexicon=text.build(plan.seed), vectors=build(rng), tenants=())
    begun_at = time.monotonic()
    due_at = begun_at
    n_commits = 0
    while not stopped() and n_commits != plan.commits:
        if plan.seconds is not None and time.monotonic() - begun_at >= plan.seconds:
            return
        if time.monotonic() < due_at:
            time.sleep(min(_SLICE_SECONDS, max(0.0, due_at - time.monotonic())))
            continue
        commit = _commit(path, plan, palette, stopped=stopped)
        if commit is None:
            return
        n_commits += 1
        yield commit
        due_at = max(due_at + 1 / plan.rate, time.monotonic() - _LATE_SECONDS)


def adding(report: WriteReport, commit: Commit) -> WriteReport:
    """Return the report with one more commit in it."""
    return WriteReport(
        n_commits=report.n_commits + 1,
        first_sequence=report.first_sequence or commit.sequence,
        last_sequence=commit.sequence,
        longest=max(report.longest or commit, commit, key=lambda one: one.took_seconds),
        n_locked=report.n_locked + commit.n_locked,
    )


def _commit(path: Path, plan: WritePlan, palette: Palette, *, stopped: Callable[[], bool]) -> Commit | None:
    begun_at = time.monotonic()
    n_locked = 0
    while True:
        try:
            sequence = _transact(path, plan, palette)
        except sqlite3.OperationalError as err:
            if err.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            n_locked += 1
            if stopped():
                return None
            time.sleep(_RETRY_SECONDS)
        else:
            return Commit(sequence=sequence, took_seconds=round(time.monotonic() - begun_at, 6), n_locked=n_locked)


def _transact(path: Path, plan: WritePlan, palette: Palette) -> int:
    """Make one connection and one transaction and return its sequence number."""
    # mode=rw: a bare connect would make an empty database where a restore is about to put one
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=plan.busy_timeout_seconds, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        (last,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM thinking_snapshots").fetchone()
        sequence = int(last) + 1
        slugs = [slug for (slug,) in connection.execute("SELECT tenant_id FROM tenants ORDER BY created_at, tenant_id")]
        mine = replace(palette, rng=text.seeded("commit", plan.seed, sequence), tenants=rows.busy_tenants(slugs))
        _insert(connection, mine, sequence)
        _strengthen(connection, mine)
        _delete(connection, mine)
        connection.execute("COMMIT")
    return sequence


def _insert(connection: sqlite3.Connection, palette: Palette, sequence: int) -> None:
    last = {table: _last_id(connection, table) for table in (*rows.SHARES, "embeddings")}
    for table, share in rows.SHARES.items():
        # a message always, a snapshot always (it carries the sequence), the rest as often as in the sample
        n = 1 if table in ("messages", "thinking_snapshots") else int(share + palette.rng.random())
        for _ in range(n):
            last[table] += 1
            row = rows.MAKERS[table](palette, last[table], last)
            if table == "thinking_snapshots":
                row = (row[0], sequence, *row[2:])
            connection.execute(rows.insert_statement(table, row), row)
            if table in rows.EMBEDDED:
                last["embeddings"] += 1
                vector = rows.embedding(palette, last["embeddings"], owner_kind=table, owner_id=last[table])
                connection.execute(rows.insert_statement("embeddings", vector), vector)


def _strengthen(connection: sqlite3.Connection, palette: Palette) -> None:
    for _ in range(_N_LINKS_A_COMMIT):
        connection.execute(
            "UPDATE attention_links SET strength = min(1.0, strength * 0.98 + ?), n_activations = n_activations + 1"
            " WHERE id = (SELECT id FROM attention_links WHERE id >= ? ORDER BY id LIMIT 1)",
            (palette.rng.random() / 20, 1 + palette.rng.randrange(_last_id(connection, "attention_links"))),
        )


def _delete(connection: sqlite3.Connection, palette: Palette) -> None:
    """Delete what nothing refers to: faded links, old auto messages, now and then a decision with its embedding."""
    link = (1 + palette.rng.randrange(_last_id(connection, "attention_links")),)
    connection.execute("DELETE FROM attention_links WHERE id >= ? AND id < ? + 8 AND strength < 0.1", link * 2)
    if palette.rng.random() < 0.3:
        connection.execute(
            "DELETE FROM auto_messages WHERE id = (SELECT id FROM auto_messages WHERE +sent = 1 ORDER BY id LIMIT 1)"
        )
    if palette.rng.random() < 0.1:
        decision = (1 + palette.rng.randrange(_last_id(connection, "decisions")),)
        connection.execute("DELETE FROM embeddings WHERE owner_kind = 'decisions' AND owner_id = ?", decision)
        connection.execute("DELETE FROM decisions WHERE id = ?", decision)


def _last_id(connection: sqlite3.Connection, table: str) -> int:
    (last,) = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()  # noqa: S608 - table names are ours
    return int(last)
