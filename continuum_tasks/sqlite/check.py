"""Health and content of a private file (staged or restored), leaving nothing beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from continuum_tasks.errors import ProofFailed

_MAX_FINDINGS = 100


def quick_check_file(path: Path) -> tuple[str, ...]:
    """Return what SQLite's quick_check finds, empty when it finds nothing; an unreadable file is a finding."""
    return _check(path, f"PRAGMA quick_check({_MAX_FINDINGS})")


def opens(path: Path) -> tuple[str, ...]:
    """Return what keeps SQLite from opening the file and reading its schema, empty when nothing does."""
    try:
        with opened_unchanging(path) as connection:
            connection.execute("SELECT count(*), sum(length(sql)) FROM sqlite_schema").fetchall()
    except apsw.Error as err:
        return (f"cannot be read: {err}",)
    return ()


def integrity_check(path: Path) -> tuple[str, ...]:
    """Return what SQLite's integrity_check finds, empty when it finds nothing; an unreadable file is a finding."""
    return _check(path, f"PRAGMA integrity_check({_MAX_FINDINGS})")


def foreign_key_check(path: Path) -> tuple[str, ...]:
    """Return at most 100 rows that refer to a row which is not there, and what keeps SQLite from looking."""
    findings: list[str] = []
    try:
        with opened_unchanging(path) as connection:
            for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check"):
                findings.append(f"{table}: row {rowid} refers to a missing row of {parent}")
                if len(findings) == _MAX_FINDINGS:
                    break
    except apsw.Error as err:
        findings.append(f"foreign keys cannot be checked: {err}")
    return tuple(findings)


def schema_digest(path: Path) -> str:
    """Return the hex SHA-256 over every table, index, view and trigger by its SQL. Raises ProofFailed."""
    with opened_unchanging(path) as connection, _named_errors(path):
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name, tbl_name"
        rows = connection.execute(query).fetchall()
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def row_counts_file(path: Path) -> tuple[tuple[str, int], ...]:
    """Return (table, rows) by name for plain and virtual tables; not for SQLite's own, nor those of a missing extension.

    Raises ProofFailed when a table cannot be read.
    """
    with opened_unchanging(path) as connection, _named_errors(path):
        return counts_through(connection)


def counts_through(connection: apsw.Connection) -> tuple[tuple[str, int], ...]:
    """Return (table, rows) by name, as `row_counts_file` says, through a connection that is open already."""
    rows = connection.execute(
        "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') ORDER BY name"
    ).fetchall()
    found = [(str(name), _count(connection, str(name), virtual=kind == "virtual")) for name, kind in rows]
    return tuple((name, n) for name, n in found if n is not None and not name.startswith("sqlite_"))


def _count(connection: apsw.Connection, name: str, *, virtual: bool) -> int | None:
    quoted = name.replace('"', '""')
    try:
        return int(connection.execute(f'SELECT count(*) FROM "{quoted}"').get)  # noqa: S608 a quoted identifier
    except apsw.SQLError:  # "no such module"
        if virtual:
            return None
        raise


def _check(path: Path, pragma: str) -> tuple[str, ...]:
    if path.stat().st_size == 0:
        return ("0 bytes",)  # SQLite calls it ok
    try:
        with opened_unchanging(path) as connection:
            found = tuple(str(row[0]) for row in connection.execute(pragma))
    except apsw.Error as err:
        return (f"cannot be read: {err}",)
    return () if found == ("ok",) else found


@contextmanager
def opened_unchanging(path: Path) -> Iterator[apsw.Connection]:
    """Open a file that nobody writes, to read it."""
    # immutable: a WAL-mode file opens without -wal and -shm being made. Only ever for files nobody writes.
    uri = f"file:{quote(str(path.absolute()))}?immutable=1"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except apsw.Error as err:
        raise ProofFailed(f"{path}: cannot be read ({err})", hint="verify the backup it came from") from err
