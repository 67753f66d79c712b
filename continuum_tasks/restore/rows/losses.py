"""Which rows of a database are not in a state that would replace it. Reads both, changes neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import apsw

from continuum_tasks.errors import SourceBusy, SourceRefused
from continuum_tasks.restore.rows.table import Table, listed_columns, quoted_identifier, read_table, same, tables
from continuum_tasks.sqlite import check
from continuum_tasks.sqlite.inspect import inspect, wal_bytes
from continuum_tasks.sqlite.live import BUSY_SECONDS, wait_for_locks


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One table: rows now, rows in the restored state (None: no such table), rows that would be lost, rows set back.

    Counted, `lost` is the least it can be and `changed` is None; compared, both are exact.
    """

    table: str
    now: int
    restored: int | None
    lost: int
    changed: int | None


def counted(target: Path, restored: tuple[tuple[str, int], ...]) -> tuple[Loss, ...]:
    """Compare row counts. Raises SourceMissing, SourceRefused, SourceBusy when the target cannot be read."""
    kept = dict(restored)
    with _reading(target) as connection:
        found = check.counts_through(connection)
    return tuple(
        Loss(table=name, now=n, restored=kept.get(name), lost=max(0, n - kept.get(name, 0)), changed=None) for name, n in found
    )


def compare_tables(staged: Path, restored: Path) -> tuple[Loss, ...]:
    """Compare the rows of two private files: by primary key, whole rows where a table has none. Raises SourceRefused."""
    with _opened(_immutable(staged), staged) as connection:
        connection.execute("ATTACH ? AS restored", (_immutable(restored),))
        names = [name for name, kind in tables(connection, "main").items() if kind == "table"]
        return tuple(_compared(connection, name) for name in names)


def _compared(connection: apsw.Connection, name: str) -> Loss:
    mine, theirs = read_table(connection, "main", name), read_table(connection, "restored", name)
    assert mine is not None
    n_rows = _one(connection, f"SELECT count(*) FROM main.{quoted_identifier(name)}")  # noqa: S608
    if theirs is None:
        return Loss(table=name, now=n_rows, restored=None, lost=n_rows, changed=0)
    restored = _one(connection, f"SELECT count(*) FROM restored.{quoted_identifier(theirs.name)}")  # noqa: S608
    common = _common(mine, theirs)
    key = mine.key if mine.key and set(mine.key) <= set(common) and mine.key == theirs.key else ()
    ours, other = f"main.{quoted_identifier(name)}", f"restored.{quoted_identifier(theirs.name)}"
    if not key:
        return Loss(table=name, now=n_rows, restored=restored, lost=_whole_rows(connection, ours, other, common), changed=0)
    lost = f"SELECT count(*) FROM {ours} AS l WHERE NOT EXISTS (SELECT 1 FROM {other} AS r WHERE {same(key, 'r', 'l')})"  # noqa: S608
    both = f"SELECT count(*) FROM {ours} AS l JOIN {other} AS r ON {same(key, 'r', 'l')}"  # noqa: S608
    changed = _one(connection, f"{both} WHERE NOT ({same(common, 'l', 'r')})")
    return Loss(table=name, now=n_rows, restored=restored, lost=_one(connection, lost), changed=changed)


def _whole_rows(connection: apsw.Connection, ours: str, other: str, common: tuple[str, ...]) -> int:
    if not common:
        return _one(connection, f"SELECT count(*) FROM {ours}")  # noqa: S608
    columns = listed_columns(common)
    # Each row counts as often as it is there: EXCEPT would make one of two equal rows.
    return _one(
        connection,
        f"SELECT coalesce(sum(max(0, n)), 0) FROM (SELECT sum(side) AS n FROM (SELECT {columns}, 1 AS side FROM {ours}"  # noqa: S608
        f" UNION ALL SELECT {columns}, -1 FROM {other}) GROUP BY {columns})",
    )


def _common(mine: Table, theirs: Table) -> tuple[str, ...]:
    other = {name.lower() for name in theirs.writable}
    return tuple(name for name in mine.writable if name.lower() in other)


def _one(connection: apsw.Connection, sql: str) -> int:
    return int(str(connection.execute(sql).get))


@contextmanager
def _reading(target: Path) -> Iterator[apsw.Connection]:
    source = inspect(target, accepted=None)  # the caller asked where it lies
    # A reader of a WAL database makes -wal and -shm when they are gone, and leaves them. Without a -wal all content is in
    # the main file: read just that; should somebody begin to write meanwhile, the counts are off and nobody is harmed.
    alone = source.wal and not wal_bytes(source.path)
    # No transaction around it all: a rollback-journal database's writers wait for one table's count at most.
    with _opened(_immutable(source.path) if alone else f"file:{quote(str(source.path))}?mode=ro", target) as connection:
        yield connection


@contextmanager
def _opened(uri: str, path: Path) -> Iterator[apsw.Connection]:
    try:
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            wait_for_locks(connection, BUSY_SECONDS)
            yield connection
        finally:
            connection.close()
    except apsw.BusyError as err:
        raise SourceBusy(f"{path}: locked", hint="another process holds it; try again") from err
    except apsw.Error as err:
        raise SourceRefused(f"{path}: cannot be read ({err})", hint="its rows cannot be counted") from err


def _immutable(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?immutable=1"
