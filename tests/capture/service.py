"""A service that does what a test tells it, one line at a time: `python -m tests.capture.service DATABASE PAGE_SIZE`.

commit N      make the next N commits on a short connection each; answers the number of the last
hold | drop   keep a connection open; close it
read | done   begin a read transaction on a connection of its own; end it
checkpoint MODE   answers "busy, frames in the log, frames copied back"
sql STATEMENT     answers its first row
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from tests.capture import workload
from tests.capture.library import connect, tether
from tests.support.processes import ROOT


class Service:
    """The test's end of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def commit(self, n_commits: int = 1) -> int:
        return int(self.tell(f"commit {n_commits}"))


@contextmanager
def service(database: Path, *, page_size: int = 4096) -> Iterator[Service]:
    """Run a service; killed at the end."""
    words = [sys.executable, "-m", "tests.capture.service", str(database), str(page_size)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield Service(process)
    finally:
        process.kill()
        process.communicate()


def _obey(path: Path, page_size: int, words: list[str], held: dict[str, apsw.Connection]) -> object:
    if words[0] == "commit":
        return _commit(path, page_size, int(words[1]))
    if words[0] in ("hold", "read"):
        held[words[0]] = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        held[words[0]].execute("BEGIN; SELECT count(*) FROM notes" if words[0] == "read" else "SELECT 1 FROM notes").fetchall()
    elif words[0] in ("drop", "done"):
        held.pop("hold" if words[0] == "drop" else "read").close()
    else:
        statement = f"PRAGMA wal_checkpoint({words[1]})" if words[0] == "checkpoint" else " ".join(words[1:])
        with connect(path) as connection:
            return connection.execute(statement).fetchall()
    return "done"


def _commit(path: Path, page_size: int, n_commits: int) -> int:
    n = 0
    for _ in range(n_commits):
        with connect(path) as connection:
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
            connection.execute("BEGIN IMMEDIATE")
            n = workload.number_of(connection) + 1
            workload.apply(connection, n, page_size)
            connection.execute("COMMIT")
    return n


if __name__ == "__main__":
    tether()
    open_ones: dict[str, apsw.Connection] = {}
    for line in sys.stdin:
        print(_obey(Path(sys.argv[1]), int(sys.argv[2]), line.split(), open_ones), flush=True)
