"""Bring all content of an old database into its main file, and keep everyone out until it is replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from continuum_tasks.errors import TargetBusy, TargetError
from continuum_tasks.restore.install.target import held_unused, locked_errors, refuse_holders, refuse_others
from continuum_tasks.sqlite import reserved
from continuum_tasks.sqlite.holders import holders

# What SQLite says of a file it cannot read as a database. No opener could get committed content out of that one, with
# its -wal or without; it stays as it is.
_UNREADABLE = (apsw.CorruptError, apsw.NotADBError, apsw.SQLError)
# A disk that cannot read must not stop the restore that is to repair it; one that cannot write (a quota) must.
_DISK_UNREADABLE = (apsw.SQLITE_IOERR_READ, apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS)


@contextmanager
def held_folded(target: Path) -> Iterator[bool]:
    """Hold the old database exclusively with its -wal checkpointed or its hot journal rolled back, both durably.

    The connection that holds it deletes a -journal by name as it closes, if it rolled one back: close it while no other
    database can have one there. Yields False, the file untouched but held, when SQLite cannot read it, or must not write it
    because its pages have reserved bytes. The -wal file itself stays for the quarantine.
    Raises TargetBusy naming the processes that use it, NoSpace, TargetError.
    """
    refuse_holders(target, holders(target.stat()))
    if reserved.in_file(target):
        with held_unused(target):
            reserved.check_folded(target)
            yield False
        return
    with locked_errors(target):
        connection = _open_folded(target)
    if connection is None:
        with held_unused(target):
            yield False
        return
    try:
        refuse_others(target, target.stat())
        yield True
    finally:
        connection.close()


def _open_folded(target: Path) -> apsw.Connection | None:
    if target.stat().st_size == 0:  # SQLite would delete the -wal or -journal of an empty file: evidence
        return None
    connection = apsw.Connection(os.fspath(target), flags=apsw.SQLITE_OPEN_READWRITE)
    folded = False
    try:
        _fold(connection, target)
        folded = True
    except _UNREADABLE:
        return None
    except apsw.IOError as err:
        if getattr(err, "extendedresult", 0) not in _DISK_UNREADABLE:
            raise
        return None
    finally:
        if not folded:
            connection.close()
    return connection


def _fold(connection: apsw.Connection, target: Path) -> None:
    # Closing must neither checkpoint nor delete the -wal: by then another database may bear the name.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    # Exclusive before the first read: the file lock is kept after COMMIT, and a -wal is opened without its -shm.
    connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
    connection.execute("PRAGMA synchronous=FULL").fetchall()
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("PRAGMA schema_version").fetchall()
    connection.execute("COMMIT")
    n_bytes = reserved.seen_by(connection)
    if n_bytes:  # in the log alone: the service has just switched its page checksums on
        raise TargetError(
            reserved.explained(target, n_bytes), hint="start and stop the service once, so that it copies its log back"
        )
    in_wal, checkpointed = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)  # (-1, -1) without a -wal
    if in_wal != checkpointed:
        raise TargetBusy(f"{target}: {in_wal - checkpointed} frames of its -wal are in use", hint="stop the service first")
