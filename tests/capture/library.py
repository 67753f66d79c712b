"""Connections for the processes that stand in for the service: apsw, whose SQLite is free of the WAL-reset bug.

With the standard library's 3.40 two racing checkpoints may damage the database itself, and nobody's copy could then be judged.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

# What a service retries: locks, recovery by another process, a -wal or -shm that was deleted while it was opened.
RETRIED = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError, apsw.CantOpenError)
_PR_SET_PDEATHSIG = 1
_PARENT_AT_START = os.getppid()


@contextmanager
def connect(path: Path, *, busy_ms: int = 5000) -> Iterator[apsw.Connection]:
    """Open for writing as a service does, close at the end."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(busy_ms)
        yield connection
    finally:
        connection.close()


def tether() -> None:
    """Die with the process that started this one, even when that one is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _PARENT_AT_START:
        sys.exit("the test that started this is gone")


def quiet_now() -> bool:
    """Tell whether every process of the service is to keep away: 60 ms in every 700, by the clock they all share.

    Only then can a close be the last one, which checkpoints and deletes the WAL.
    """
    return time.monotonic() % 0.7 < 0.06
