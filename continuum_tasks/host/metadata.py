"""`metadata.db` itself: how one connection is opened, found again after the file was deleted, and asked.

Several modules keep tables in it, several processes use it at once, and an operator may delete it at any time: it holds
nothing that the storages do not know. The next call then makes a new file.
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

from continuum_tasks.errors import ConfigError, DatabaseLocked, IntegrityError, NoSpace

METADATA = "metadata.db"  # in the state directory
_BUSY_SECONDS = 10


class Metadata:
    """One connection to a `metadata.db` that has the tables of `schema`. Safe from several threads, never across a fork."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._schema = schema
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
            return self._open().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Hold the file's write lock; commit at the end, roll back on an error."""
        with self._lock, _named(self._path):
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            with _ended(connection):
                yield connection

    def _open(self) -> apsw.Connection:
        if os.getpid() != self._pid:
            raise RuntimeError(f"{self._path}: opened before a fork; open it again in the child")
        if self._connection is None or self._file != _identity(self._path):
            self._drop()
            self._connection, self._file = _connect(self._path)
            self._connection.execute(self._schema)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._file = None


def open_metadata(path: Path, schema: str) -> Metadata:
    """Open the file at `path`, making it (0600) and the tables of `schema` (CREATE ... IF NOT EXISTS) when missing.

    Raises ConfigError when it cannot be opened or written, IntegrityError when it is damaged, DatabaseLocked, NoSpace.
    """
    metadata = Metadata(path, schema)
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
