"""The logical hash of any SQLite database: SHA-256 over its schema and all its rows, in one fixed order.

It shares no code with the product and reads through SQLite alone, so it can bear witness about a restored file. Two databases
with the same hash have the same schema text, settings and rows; their pages, freelists and indexes may still differ.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_PRAGMAS = ("encoding", "user_version", "application_id")
_ROWS_A_FETCH = 512
_LENGTH = struct.Struct(">cQ")
_REAL = struct.Struct(">cd")


class _Text(bytes):
    """A TEXT value as stored: the oracle hashes bytes, valid UTF-8 or not."""

    __slots__ = ()


_Value = int | float | bytes | _Text | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalHash:
    """`sha256` over everything; `counts` and `tables` (a SHA-256 each) name the table that differs."""

    sha256: str
    schema: str
    counts: dict[str, int]
    tables: dict[str, str]


def logical_hash(path: Path) -> LogicalHash:
    """Hash the database in one read transaction: a live one is seen at one commit, its writers may wait meanwhile.

    It is opened for writing where that is allowed, because only then does closing a WAL database leave nothing beside it.
    Raises sqlite3.OperationalError for a missing file and sqlite3.DatabaseError for one that is not a database.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)) as connection:
        connection.text_factory = _Text
        connection.execute("BEGIN")
        return _hash(connection)


def _hash(connection: sqlite3.Connection) -> LogicalHash:
    schema = hashlib.sha256()
    for pragma in _PRAGMAS:
        schema.update(_encode(connection.execute(f"PRAGMA {pragma}").fetchall()))
    listing = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
    schema.update(_encode(listing))
    total = hashlib.sha256(schema.digest())
    counts: dict[str, int] = {}
    tables: dict[str, str] = {}
    for table in _tables(connection):
        counts[table], tables[table] = _hash_table(connection, table)
        total.update(_encode([(_Text(table.encode()), counts[table], _Text(tables[table].encode()))]))
    return LogicalHash(sha256=total.hexdigest(), schema=schema.hexdigest(), counts=counts, tables=tables)


def _tables(connection: sqlite3.Connection) -> list[str]:
    # a virtual table has no root page; what it holds is in its shadow tables, which have
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name")
    return [name.decode() for (name,) in found]


def _hash_table(connection: sqlite3.Connection, table: str) -> tuple[int, str]:
    hasher = hashlib.sha256()
    n_rows = 0
    for rows in _batches(connection, _listing(connection, table)):
        n_rows += len(rows)
        hasher.update(_encode(rows))
    return n_rows, hasher.hexdigest()


def _listing(connection: sqlite3.Connection, table: str) -> str:
    """Return the SELECT of all stored columns in the order of the rowid, or of the primary key where there is none."""
    # columns 1 and 5 of table_xinfo are the name and the place in the primary key; 6 tells virtual generated columns (2)
    columns = [row for row in connection.execute(f"PRAGMA table_xinfo({_quoted(table)})") if row[6] != 2]
    names = [row[1].decode() for row in columns]
    key = ", ".join(_quoted(row[1].decode()) for row in sorted(columns, key=lambda row: row[5]) if row[5])
    taken = {name.lower() for name in names}
    rowid = next((alias for alias in ("rowid", "oid", "_rowid_") if alias not in taken), None)
    listed = ", ".join(map(_quoted, names))
    kind = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?"
    (without_rowid,) = connection.execute(kind, (table,)).fetchone()
    if without_rowid or rowid is None:
        return f"SELECT {listed} FROM {_quoted(table)} ORDER BY {key or listed}"  # noqa: S608 - quoted names
    return f"SELECT {rowid}, {listed} FROM {_quoted(table)} ORDER BY {rowid}"  # noqa: S608 - quoted names


def _batches(connection: sqlite3.Connection, statement: str) -> Iterator[list[tuple[_Value, ...]]]:
    cursor = connection.execute(statement)
    while rows := cursor.fetchmany(_ROWS_A_FETCH):
        yield rows


def _encode(rows: Iterable[tuple[_Value, ...]]) -> bytes:
    """Encode rows so that no two different lists of rows share an encoding: each value has its type and its length."""
    parts: list[bytes] = []
    for row in rows:
        parts.append(_LENGTH.pack(b"(", len(row)))
        for value in row:
            if isinstance(value, bytes):
                parts += (_LENGTH.pack(b"T" if isinstance(value, _Text) else b"B", len(value)), value)
            elif value is None:
                parts.append(b"N")
            elif isinstance(value, float):
                parts.append(_REAL.pack(b"R", value))
            else:
                parts.append(b"I%d;" % value)
    return b"".join(parts)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
