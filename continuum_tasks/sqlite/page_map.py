"""sqlite/page_map.py: which table each page of a live database belongs to now, as SQLite's own `dbstat` tells."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from continuum_tasks.errors import SourceRefused
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.live import opened

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
    source = inspect(path)
    if not source.wal or source.size_bytes > LIMIT_BYTES:
        why = "larger than 256 MiB" if source.wal else "in rollback-journal mode, where a reader makes writers wait"
        raise SourceRefused(f"{path}: {why}, so tables are not looked up", hint="leave out --tables")
    wanted = set(pgnos)
    found: dict[int, str] = {}
    with opened(source.path) as connection:
        for pgno, name in connection.execute(_OWNERS):
            if pgno in wanted:
                found[int(pgno)] = str(name)
    return found
