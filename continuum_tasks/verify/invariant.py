"""sqlite/invariant.py: put a yes-or-no question in SQL to a private file. It can only read, and only that file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from continuum_tasks.sqlite.check import opened_unchanging

_STEPS_BETWEEN_LOOKS = 100_000
_SHOWN_CHARACTERS = 200


def objection(path: Path, sql: str, *, limit_seconds: float, monotonic: Callable[[], float]) -> str:
    """Return what speaks against it, empty when the question is answered yes.

    Yes is no row at all (no counter-example), or one row of one expression that is 1. A row whose one column is a bare
    column of a table is a counter-example, also where it holds a 1: as in `SELECT id FROM orphans`.
    """
    deadline = monotonic() + limit_seconds
    try:
        with opened_unchanging(path) as connection:
            connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
            connection.set_progress_handler(lambda: monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
            return _read(connection.execute(sql))
    except apsw.InterruptError:
        return f"no answer in {limit_seconds:g} s"
    except apsw.Error as err:
        return str(err)


def _read(cursor: apsw.Cursor) -> str:
    try:
        columns = cursor.description_full
    except apsw.ExecutionCompleteError:  # there is no first row
        return ""
    row, *more = (row for _, row in zip(range(2), cursor, strict=False))
    shown = repr(row)[:_SHOWN_CHARACTERS]
    if more:
        return f"answers with rows, the first {shown}"
    if len(row) != 1 or row[0] != 1:
        return f"answers {shown}"
    origin = columns[0][4]
    return f"answers with a row of a table, {shown}: write an expression such as `{origin} = 1`" if origin else ""
