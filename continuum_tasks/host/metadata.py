"""`metadata.db` itself: its tables, how one connection is opened, found again after the file was deleted, and asked.

Several modules keep tables in it, several processes use it at once, and an operator may delete it at any time: no recovery
point is lost with it. The next call then makes a new file. Its `user_version` says which of `MIGRATIONS` it has had.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from continuum_tasks import failpoints
from continuum_tasks.errors import ConfigError, DatabaseLocked, IntegrityError, NoSpace, newer_format

METADATA = "metadata.db"  # in the state directory
_BUSY_SECONDS = 10
_NEWER = (
    "upgrade continuum on this host; or move the file away: `continuum backup reindex` makes the index again,"
    " queued jobs and measurements are then forgotten"
)

_VERSION_1 = """
CREATE TABLE IF NOT EXISTS backups (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, database TEXT NOT NULL, created_at TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (storage, backup_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (storage, backup_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attestations (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, level TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (storage, backup_id, level, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (storage, backup_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drills (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (storage, backup_id, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accepted (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (storage, backup_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    storage TEXT NOT NULL, backup_id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (storage, backup_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS indexed (storage TEXT PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, database TEXT NOT NULL, args TEXT NOT NULL, state TEXT NOT NULL,
    priority INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL,
    token INTEGER NOT NULL DEFAULT 0, lease_until INTEGER, claimed_by TEXT NOT NULL DEFAULT '', parent_id TEXT,
    phase TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', n_bytes INTEGER NOT NULL DEFAULT 0,
    total_bytes INTEGER NOT NULL DEFAULT 0, result TEXT, error TEXT, rung_at INTEGER,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_open ON jobs (state) WHERE state IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS jobs_parent ON jobs (parent_id) WHERE parent_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY, job_id TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS notes_by_job ON notes (job_id);
CREATE TABLE IF NOT EXISTS pools (
    pool TEXT NOT NULL, host TEXT NOT NULL, queue TEXT NOT NULL, pid INTEGER NOT NULL, process TEXT NOT NULL,
    seen_at INTEGER NOT NULL, PRIMARY KEY (pool, host)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metrics (name TEXT NOT NULL, at TEXT NOT NULL, value REAL NOT NULL, labels TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS metrics_by_name ON metrics (name, at);
"""

MIGRATIONS: tuple[str, ...] = (_VERSION_1,)
"""What leads from each version of the tables to the next. A released one never changes: a new one is appended.

The first also finds its tables there: releases before migrations made them and left `user_version` at 0.
"""


class Metadata:
    """One connection to a `metadata.db` after all `migrations`. Safe from several threads, never across a fork."""

    def __init__(self, path: Path, migrations: tuple[str, ...] = MIGRATIONS) -> None:
        self._path = path
        self._migrations = migrations
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._file: tuple[int, int] | None = None
        self._connection: apsw.Connection | None = None

    def close(self) -> None:
        with self._lock:
            self._drop()

    def rows(self, sql: str, values: tuple[apsw.SQLiteValue, ...] = ()) -> list[apsw.SQLiteValues]:
        """Return every row of one query."""
        with self._lock, _named(self._path):
            connection = self._open()
            self._version(connection)
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Hold the file's write lock; commit at the end, roll back on an error."""
        with self._lock, _named(self._path):
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            with _ended(connection):
                self._version(connection)  # a newer program may have changed the tables since the file was opened
                yield connection

    def _open(self) -> apsw.Connection:
        if os.getpid() != self._pid:
            raise RuntimeError(f"{self._path}: opened before a fork; open it again in the child")
        if self._connection is None or self._file != _identity(self._path):
            self._drop()
            connection, found = _connect(self._path)
            try:
                self._migrate(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._file = connection, found
        return self._connection

    def _migrate(self, connection: apsw.Connection) -> None:
        """Bring the tables to this version, in one transaction: killed in it, the file is what it was."""
        if self._version(connection) == len(self._migrations):
            return
        connection.execute("BEGIN IMMEDIATE")
        with _ended(connection):
            for migration in self._migrations[self._version(connection) :]:  # asked again: another process may have been first
                connection.execute(migration)
                failpoints.reach("metadata.migrated")
            connection.execute(f"PRAGMA user_version = {len(self._migrations)}")
            failpoints.reach("metadata.versioned")

    def _version(self, connection: apsw.Connection) -> int:
        """Return the version of the tables. Raises NewerFormat."""
        version = int(str(connection.execute("PRAGMA user_version").fetchall()[0][0]))
        if version > len(self._migrations):
            raise newer_format(str(self._path), version, len(self._migrations), hint=_NEWER)
        return version

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file = None


def open_metadata(path: Path) -> Metadata:
    """Open the file at `path`, making it (0600) when it is missing, with the tables of this version.

    Raises ConfigError when it cannot be opened or written, IntegrityError when it is damaged, NewerFormat, DatabaseLocked,
    NoSpace.
    """
    metadata = Metadata(path)
    metadata.rows("SELECT 1")
    return metadata


def _identity(path: Path) -> tuple[int, int] | None:
    # stat only: opening the file ourselves and closing it again would drop the locks our connections hold on it.
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return (stat.st_dev, stat.st_ino)


def _connect(path: Path) -> tuple[apsw.Connection, tuple[int, int]]:
    while True:
        before = _identity(path) or _create(path)
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(_BUSY_SECONDS * 1000)
        if _identity(path) == before:
            break
        connection.close()
    # A connection to a file that was deleted meanwhile must not tidy up sidecars that belong to its successor.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
    return connection, before


def _create(path: Path) -> tuple[int, int]:
    """Make an empty private database; sidecars that outlived the last one go first, or their frames would come back."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    gate = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        found = _identity(path)
        if found is not None:
            return found
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        # Closed under another name before anyone can have locks on it, then given its own.
        blank = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        os.close(os.open(blank, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        blank.rename(path)
        stat = path.stat()
        return (stat.st_dev, stat.st_ino)
    finally:
        os.close(gate)


@contextmanager
def _ended(connection: apsw.Connection) -> Iterator[None]:
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as err:
        raise DatabaseLocked(f"{path}: busy for {_BUSY_SECONDS} s", hint="another process holds it; try again") from err
    except (apsw.CorruptError, apsw.NotADBError) as err:
        hint = "move it away: jobs start afresh, and `continuum backup reindex` rebuilds the catalog from the storages"
        raise IntegrityError(f"{path}: damaged ({err})", hint=hint) from err
    except apsw.FullError as err:
        raise NoSpace(f"{path}: no space left", hint="free space in state_dir") from err
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.IOError, OSError) as err:
        raise ConfigError(f"{path}: cannot be opened or written ({err})", hint="check state_dir and its owner") from err
