"""Read a database that others use: counts and a health check, on a read-only connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from continuum_tasks.errors import SourceBusy, SourceRefused
from continuum_tasks.layer import format
from continuum_tasks.layer.format import lock_page
from continuum_tasks.sqlite import vfs
from continuum_tasks.sqlite.check import counts_through
from continuum_tasks.sqlite.inspect import inspect

BUSY_SECONDS = 5.0


def row_counts(path: Path) -> tuple[tuple[str, int], ...]:
    """Return (table, rows) of one state, as `check.row_counts_file` does. Raises SourceBusy, SourceRefused."""
    found: tuple[tuple[str, int], ...] = ()
    with open_live(path) as connection, connection:
        found += counts_through(connection)
    return found


def quick_check(path: Path) -> tuple[str, ...]:
    """Return what SQLite's quick_check finds in the newest commit, empty when nothing. Raises SourceBusy, SourceRefused."""
    found: tuple[str, ...] = ()
    with open_live(path) as connection:
        try:
            found = tuple(str(row[0]) for row in connection.execute("PRAGMA quick_check(20)"))
        except apsw.CorruptError as err:
            found = (f"cannot be read: {err}",)
    return () if found == ("ok",) else found


@contextmanager
def open_live(path: Path) -> Iterator[apsw.Connection]:
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


_READ_BYTES = 1024 * 1024


def live_root(path: Path, *, page_size: int, n_pages: int) -> str:
    """Return the root in hex; a file that changes meanwhile has another one. Raises SourceRefused when it cannot be read."""
    try:
        with vfs.open_locked_file(path) as file:
            return format.digest_root(_digests(file, page_size, n_pages))
    except apsw.Error as err:
        raise SourceRefused(f"{path}: cannot be read ({err})", hint="check its permissions and the disk") from err


def _digests(file: apsw.VFSFile, page_size: int, n_pages: int) -> Iterator[bytes]:
    step, locked = max(1, _READ_BYTES // page_size), lock_page(page_size)
    for first in range(1, n_pages + 1, step):
        n = min(step, n_pages + 1 - first)
        data = file.xRead(n * page_size, (first - 1) * page_size).ljust(n * page_size, b"\0")
        found = format.digests_of(data, page_size)
        if first <= locked < first + n:
            at = (locked - first) * format.DIGEST_BYTES
            found = found[:at] + format.ZERO_DIGEST + found[at + format.DIGEST_BYTES :]
        yield found


LIMIT_BYTES = 256 * 1024**2  # `dbstat` reads every page: a second for as much as this


_OWNERS = (
    "SELECT s.pageno, coalesce(m.tbl_name, s.name) FROM dbstat AS s"
    " LEFT JOIN sqlite_schema AS m ON m.name = s.name AND m.type IN ('table', 'index')"
)


def tables_of(path: Path, pgnos: Collection[int]) -> dict[int, str]:
    """Return the table that each of these pages is part of, its indexes included; pages that are free or gone are left out.

    Reads in one read transaction. Raises SourceMissing, SourceBusy, and SourceRefused also for a database that is larger
    than 256 MiB, or whose writers would have to wait for the reader.
    """
    source = inspect(path, accepted=None)  # it is captured: where it lies was asked when that began
    if not source.wal or source.size_bytes > LIMIT_BYTES:
        why = "larger than 256 MiB" if source.wal else "in rollback-journal mode, where a reader makes writers wait"
        raise SourceRefused(f"{path}: {why}, so tables are not looked up", hint="run it without --tables")
    wanted = set(pgnos)
    found: dict[int, str] = {}
    with open_live(source.path) as connection:
        for pgno, name in connection.execute(_OWNERS):
            if pgno in wanted:
                found[int(pgno)] = str(name)
    return found


_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.000_5, 0.003


def wait_for_locks(
    connection: apsw.Connection,
    seconds: float,
    *,
    pause: Callable[[float], object] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Let a connection try again for so long whenever a lock is taken, instead of SQLite's own busy timeout.

    That one looks every 100 ms in the end. A writer that commits all the time, in rollback-journal mode, leaves gaps of a
    few milliseconds: looking every 2 ms a reader is in after 10 ms at most, where the busy timeout took up to 2.7 s of 5.
    """
    deadline = 0.0

    def again(n_tries: int) -> bool:
        nonlocal deadline
        if n_tries == 0:
            deadline = monotonic() + seconds
        if monotonic() >= deadline:
            return False
        pause(random.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS))  # noqa: S311 - spreads contenders, guards nothing
        return True

    connection.set_busy_handler(again)
