"""Bring picked rows into a live database, in one transaction, while its service runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import apsw

from continuum_tasks.errors import NoSpace, TargetBusy, TargetError, TargetExists
from continuum_tasks.restore.rows.match import Match, OnConflict, Terms, equal, match, terms
from continuum_tasks.restore.rows.select import ROWS, SelectedRows, immutable
from continuum_tasks.restore.rows.table import Table, listed_columns, quoted_identifier, read_table, tables
from continuum_tasks.sqlite import reserved
from continuum_tasks.sqlite.holders import describe_holders, holders, others
from continuum_tasks.sqlite.inspect import DatabaseSource, inspect, wal_bytes

BUSY_SECONDS = 30  # a service commits many times in between; SQLite's locks are not fair


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertedRows:
    """What was written, as found inside the transaction, and how long writers could not begin."""

    found: Match
    n_inserted: int
    n_replaced: int
    n_skipped: int
    locked_seconds: float


def inspect_insert(picked: SelectedRows, live: Path, *, on_conflict: OnConflict) -> Match:
    """Say how the rows meet a live database; changes nothing. Raises SourceError, TargetBusy, TargetError."""
    with _opened(live, picked) as connection:
        return match(connection, picked, _shape(connection, picked, live), on_conflict=on_conflict)


def check_insertable(live: Path, *, accepted: Collection[str] | None) -> DatabaseSource:
    """Refuse a live database that SQLite must not write; `accepted` as in `inspect`. Raises SourceError, TargetError."""
    source = inspect(live, accepted=accepted)
    _check_reserved(live, source.reserved_bytes)
    return source


def _check_reserved(live: Path, n_bytes: int) -> None:
    if n_bytes:
        raise TargetError(
            f"{reserved.explained(live, n_bytes)}: rows cannot be inserted into it from here, nothing was written",
            hint="write the rows out with --output, and have the service insert them",
        )


def refused(found: Match, *, on_conflict: OnConflict) -> TargetError | None:
    """Return why these rows cannot be brought in, None when they can."""
    if found.orphans:
        named = "; ".join(
            f"{o.n_rows} rows refer by {', '.join(o.columns)} to rows of {o.parent} that are not there (such as {o.example})"
            for o in found.orphans
        )
        return TargetError(named, hint=f"extract --table {found.orphans[0].parent} first, or exclude those rows with --where")
    if found.missing:
        return TargetError(
            f"column {', '.join(found.missing)}: new since the backup, NOT NULL and without a default",
            hint="write the rows out with --output, complete them, and insert them by hand",
        )
    if found.n_conflicts and on_conflict is OnConflict.FAIL:
        return TargetExists(
            f"{found.n_conflicts} rows are there already with other content",
            hint="--on-conflict skip keeps what is there, replace takes the backup's",
        )
    if found.n_clashes and on_conflict is not OnConflict.SKIP:
        return TargetExists(
            f"{found.n_clashes} rows would break a UNIQUE index: other rows have their place",
            hint="--on-conflict skip skips them; or choose others with --where",
        )
    return None


def insert_rows(picked: SelectedRows, live: Path, *, on_conflict: OnConflict, monotonic: Callable[[], float]) -> InsertedRows:
    """Write the rows in one transaction; what the look before it found may have changed, so it is looked at again inside.

    Raises SourceError, TargetBusy, NoSpace, TargetError (also for a row that a constraint refuses); nothing is written then.
    """
    with _opened(live, picked) as connection:
        connection.execute("BEGIN IMMEDIATE")
        begun = monotonic()
        try:
            brought = _write(connection, picked, live, on_conflict)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        found, n_inserted, n_replaced = brought
    return InsertedRows(
        found=found,
        n_inserted=n_inserted,
        n_replaced=n_replaced,
        n_skipped=picked.n_rows - n_inserted - n_replaced,
        locked_seconds=round(monotonic() - begun, 3),
    )


def _write(connection: apsw.Connection, picked: SelectedRows, live: Path, on_conflict: OnConflict) -> tuple[Match, int, int]:
    connection.execute("PRAGMA defer_foreign_keys = ON")  # rows of one table may refer to each other in any order
    there = _shape(connection, picked, live)
    found = match(connection, picked, there, on_conflict=on_conflict)
    wrong = refused(found, on_conflict=on_conflict)
    if wrong is not None:
        raise wrong
    if there is None:
        connection.execute(picked.shape.sql)
    pieces = terms(connection, picked, there)
    n_replaced = 0
    if on_conflict is OnConflict.REPLACE and found.n_conflicts:
        n_replaced = _replace(connection, picked, pieces)
    columns = ", ".join(f"p.{picked.column(name)}" for name in pieces.columns)
    skip = " ON CONFLICT DO NOTHING" if on_conflict is OnConflict.SKIP else ""
    connection.execute(
        f"INSERT INTO main.{quoted_identifier(pieces.live.name)} ({listed_columns(pieces.columns)})"  # noqa: S608
        f" SELECT {columns} FROM picked.{ROWS} AS p WHERE {pieces.is_new} ORDER BY p.n{skip}"
    )
    n_inserted = connection.changes()
    for sql in picked.shape.companions if there is None else ():
        connection.execute(sql)  # after the rows: triggers are for what the service does
    return found, n_inserted, n_replaced


def _replace(connection: apsw.Connection, picked: SelectedRows, pieces: Terms) -> int:
    """Update in place: INSERT OR REPLACE would delete first, and with a row what refers to it (ON DELETE CASCADE)."""
    rest = tuple(name for name in pieces.columns if name not in pieces.key)
    settings = ", ".join(f"{quoted_identifier(name)} = p.{picked.column(name)}" for name in rest)
    connection.execute(
        f"UPDATE main.{quoted_identifier(pieces.live.name)} AS l SET {settings} FROM picked.{ROWS} AS p"  # noqa: S608
        f" WHERE {equal(picked, pieces.key)} AND {pieces.differs}"
    )
    return connection.changes()


def _shape(connection: apsw.Connection, picked: SelectedRows, live: Path) -> Table | None:
    found = read_table(connection, "main", picked.shape.name)
    kinds = {name.lower(): kind for name, kind in tables(connection, "main").items()}
    kind = kinds.get(picked.shape.name.lower())
    if found is None and kind is not None:
        raise TargetError(f"{live}: {picked.shape.name} is a {kind} there", hint="rows can be inserted into plain tables only")
    return found


@contextmanager
def _opened(live: Path, picked: SelectedRows) -> Iterator[apsw.Connection]:
    source = check_insertable(live, accepted=None)  # the caller asked where it lies
    if not os.access(source.path, os.W_OK):
        raise TargetError(f"{live}: no permission to write", hint=f"run as its owner (uid {source.uid}) or as root")
    left_wal = wal_bytes(source.path) > 0
    with _errors(live):
        connection = apsw.Connection(
            f"file:{quote(str(source.path))}?mode=rw", flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        )
        try:
            connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
            # The service's commits stay where it left them, and ours beside them: checkpoints are the service's.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(left_wal))
            connection.wal_autocheckpoint(0)
            connection.execute("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536").fetchall()
            connection.execute("PRAGMA schema_version").fetchall()
            _check_reserved(live, reserved.seen_by(connection))  # also when the log alone says so
            connection.execute("ATTACH ? AS picked", (immutable(picked.path),))
            yield connection
        finally:
            connection.close()


@contextmanager
def _errors(live: Path) -> Iterator[None]:
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as err:
        who = describe_holders(others(holders(live.stat())))
        raise TargetBusy(
            f"{live}: locked for more than {BUSY_SECONDS} s by {who}", hint="try again when it is quieter"
        ) from err
    except apsw.ConstraintError as err:
        raise TargetError(f"{live}: a row is refused ({err})", hint="nothing was written; choose others with --where") from err
    except apsw.FullError as err:
        raise NoSpace(f"{live}: disk full; nothing was written", hint=f"free space on {live.parent}") from err
    except (apsw.CorruptError, apsw.NotADBError) as err:
        raise TargetError(f"{live}: damaged ({err}); nothing was written", hint="restore it instead") from err
    except apsw.Error as err:
        raise TargetError(f"{live}: rows cannot be inserted ({err}); nothing was written", hint="see the message") from err
