"""sqlite/live.py: read a database that others use: counts and a health check, on a read-only connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from continuum_tasks.errors import SourceBusy, SourceRefused
from continuum_tasks.sqlite.check import counts
from continuum_tasks.sqlite.patience import wait_for_locks

BUSY_SECONDS = 5.0


def row_counts(path: Path) -> tuple[tuple[str, int], ...]:
    """Return (table, rows) of one state, of the tables that `check.row_counts` counts. Raises SourceBusy, SourceRefused."""
    found: tuple[tuple[str, int], ...] = ()
    with opened(path) as connection, connection:
        found += counts(connection)
    return found


def quick_check(path: Path) -> tuple[str, ...]:
    """Return what SQLite's quick_check finds in the newest commit, empty when nothing. Raises SourceBusy, SourceRefused."""
    found: tuple[str, ...] = ()
    with opened(path) as connection:
        try:
            found = tuple(str(row[0]) for row in connection.execute("PRAGMA quick_check(20)"))
        except apsw.CorruptError as err:
            found = (f"cannot be read: {err}",)
    return () if found == ("ok",) else found


@contextmanager
def opened(path: Path) -> Iterator[apsw.Connection]:
    """Open a live database read-only for a moment. Raises SourceBusy, SourceRefused, also for what is run inside."""
    try:
        connection = apsw.Connection(f"file:{quote(str(path))}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            wait_for_locks(connection, BUSY_SECONDS)
            yield connection
        finally:
            connection.close()
    except apsw.BusyError as err:
        raise SourceBusy(f"{path}: locked", hint="another process holds it; try again") from err
    except apsw.Error as err:
        raise SourceRefused(f"{path}: cannot be read ({err})", hint="check its permissions; is it a SQLite database?") from err
