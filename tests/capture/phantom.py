"""A writer whose fsync of the WAL fails: a commit frame is then in the log, valid in every way, that SQLite never committed.

`python -m tests.capture.phantom DATABASE`: makes that one attempt, says `refused` and keeps its connection until its input
ends. It needs no compiler: apsw lets a file system be written in Python, and only xSync of the -wal is another one here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import apsw

from tests.capture import workload
from tests.capture.library import tether


class _File(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int]) -> None:
        self._is_wal = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        if self._is_wal:
            raise apsw.IOError("the disk refused")
        super().xSync(flags)


class _FailingVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("failing", "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:
        return _File(name, flags)


def attempt(connection: apsw.Connection) -> None:
    """Try to commit a number that must never be seen anywhere."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO bulk VALUES (999999, zeroblob(20000))")
    connection.execute(f"PRAGMA user_version = {workload.NEVER}")
    try:
        connection.execute("COMMIT")
    except apsw.IOError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return
    raise AssertionError("the commit went through")


if __name__ == "__main__":
    tether()
    vfs = _FailingVFS()
    held = apsw.Connection(str(Path(sys.argv[1])), vfs="failing", flags=apsw.SQLITE_OPEN_READWRITE)
    attempt(held)
    print("refused", flush=True)
    sys.stdin.read()
