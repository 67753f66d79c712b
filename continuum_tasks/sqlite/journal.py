"""Have a rollback-journal database use a write-ahead log, on its owner's request and never by itself."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import apsw

from continuum_tasks.errors import SourceBusy, SourceRefused

# Less than the 5 s after which CONTINUUM's writers give up: while SQLite waits for readers to end, none begins anew.
BUSY_MILLISECONDS = 2_000
WAL = "wal"


def switch_to_wal(path: Path) -> None:
    """Switch to WAL mode, for good: SQLite writes two bytes of the header in a transaction of its own. Opens no file itself.

    `path` was looked at by `inspect`. Raises SourceBusy when another connection stays in a transaction, SourceRefused.
    """
    try:
        connection = apsw.Connection(
            f"file:{quote(str(path))}?mode=rw", flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        )
        try:
            connection.set_busy_timeout(BUSY_MILLISECONDS)
            mode = str(connection.execute("PRAGMA journal_mode = wal").get)
        finally:
            connection.close()
    except apsw.BusyError as err:
        raise SourceBusy(
            f"{path}: another connection stayed in a transaction for {BUSY_MILLISECONDS // 1000} s; nothing was changed",
            hint="try again, or stop the service for a moment",
        ) from err
    except apsw.Error as err:
        raise SourceRefused(
            f"{path}: not switched to WAL mode ({err})", hint="run it as the user who owns the file and its directory"
        ) from err
    if mode != WAL:
        raise SourceRefused(
            f"{path}: SQLite left it in journal mode {mode}",
            hint="its file system may lack shared memory: move it to a local one",
        )
