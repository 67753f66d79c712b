"""Hold read transactions for the reference capturer: `python -m tests.capture.pin DATABASE`, ended by the end of its input.

Each line read is answered by a line: `pin` opens a new read transaction beside those held, `unpin` closes the oldest.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import apsw

from tests.capture.library import RETRIED, tether

_TRY_SECONDS = 20.0


def pin(path: Path) -> apsw.Connection:
    """Return a read-only connection inside a read transaction."""
    until = time.monotonic() + _TRY_SECONDS
    while True:
        try:
            connection = apsw.Connection(path.as_uri() + "?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
            connection.set_busy_timeout(2000)
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except (*RETRIED, apsw.ReadOnlyError):  # or somebody who may write has a killed writer's journal to roll back first
            if time.monotonic() > until:
                raise
            time.sleep(0.002)
        else:
            return connection


if __name__ == "__main__":
    tether()
    held: list[apsw.Connection] = []
    for line in sys.stdin:
        if line == "pin\n":
            held.append(pin(Path(sys.argv[1])))
        else:
            held.pop(0).close()
        print("done", flush=True)
