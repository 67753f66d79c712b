"""Raw reads and locks on a database file through SQLite's own file layer (ADR 2).

Closing an ordinary descriptor drops every POSIX lock the process holds on the file, those of SQLite connections included.
SQLite's "unix" layer shares one lock table per inode and puts the closing off, but only for a file opened as MAIN_DB:
without that flag the locks are lost all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

_POLL_SECONDS = 0.02


@contextmanager
def open_locked_file(path: Path, *, writable: bool = False) -> Iterator[apsw.VFSFile]:
    """Open a database file without harm to this process's locks on it. Raises apsw.CantOpenError.

    `writable` without the permission to write opens for reading, as SQLite does.
    """
    mode = apsw.SQLITE_OPEN_READWRITE if writable else apsw.SQLITE_OPEN_READONLY
    file = apsw.VFSFile("unix", os.fspath(path), [apsw.SQLITE_OPEN_MAIN_DB | mode, 0])
    try:
        yield file
    finally:
        file.xClose()


@contextmanager
def hold_shared(path: Path, *, wait_seconds: float) -> Iterator[apsw.VFSFile]:
    """Hold SQLite's SHARED lock: nobody writes the main file of a rollback-journal database. Raises apsw.BusyError."""
    with open_locked_file(path) as file:
        deadline = time.monotonic() + wait_seconds
        while not _try_shared(file):
            if time.monotonic() >= deadline:
                raise apsw.BusyError("database is locked")
            time.sleep(_POLL_SECONDS)
        try:
            yield file
        finally:
            file.xUnlock(apsw.SQLITE_LOCK_NONE)


@contextmanager
def exclusive(path: Path) -> Iterator[apsw.VFSFile]:
    """Hold SQLite's EXCLUSIVE lock, at once or not at all: no connection is inside a transaction, none is in WAL mode.

    Raises apsw.BusyError when someone is, apsw.IOError without the permission to write.
    """
    with open_locked_file(path, writable=True) as file:
        try:
            file.xLock(apsw.SQLITE_LOCK_SHARED)
            file.xLock(apsw.SQLITE_LOCK_EXCLUSIVE)
            yield file
        finally:
            file.xUnlock(apsw.SQLITE_LOCK_NONE)


def read_start(path: Path, n_bytes: int) -> bytes:
    """Return the first bytes of the file, fewer when it is shorter. Raises apsw.CantOpenError."""
    with open_locked_file(path) as file:
        return file.xRead(n_bytes, 0)


def _try_shared(file: apsw.VFSFile) -> bool:
    try:
        file.xLock(apsw.SQLITE_LOCK_SHARED)
    except apsw.BusyError:
        return False
    return True
