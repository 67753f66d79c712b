"""A service that notes what it committed: `python -m tests.capture.notebook DATABASE`, one line at a time.

It uses the standard library's sqlite3. Each commit has a label of its own in `user_version`, never one that was there before.

short LABEL | long LABEL   commit on a connection of its own, or on one that stays open; answers the digest of all rows
checkpoint MODE            answers `whole` when all frames are copied back now, else `part`
quit                       close the connection that stays open
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ROOT

FAILED = "failed"


class Notebook:
    """The test's end of it: `digests` has the digest of all rows after each commit, by its label."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._label = 1000
        self.digests: dict[int, str] = {}

    def tell(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def commit(self, kind: str) -> int:
        """Return the label of a new commit, 0 when SQLite refused it."""
        self._label += 1
        answer = self.tell(f"{kind} {self._label}")
        if answer == FAILED:
            return 0
        self.digests[self._label] = answer
        return self._label


@contextmanager
def notebook(database: Path) -> Iterator[Notebook]:
    """Run the service; killed at the end."""
    words = [sys.executable, "-m", "tests.capture.notebook", str(database)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield Notebook(process)
    finally:
        process.kill()
        process.communicate()


def judged(database: Path) -> tuple[str, int, str]:
    """Return what another process finds in a database: its integrity, its label, the digest of its rows."""
    words = [sys.executable, "-m", "tests.capture.notebook", str(database)]
    done = subprocess.run(words, input="judge -\n", capture_output=True, text=True, cwd=ROOT, check=True, timeout=120)
    integrity, label, digest = done.stdout.strip().split("|")
    return integrity, int(label), digest


def make(database: Path) -> None:
    """Make a database of two tables, some hundred pages, and leave no log behind."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for table in ("a", "b"):
            connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, x)")
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(n, f"{table} {n} " * 60) for n in range(500)])
        connection.commit()


def _digest(connection: sqlite3.Connection) -> str:
    total = hashlib.sha256()
    for table in ("a", "b"):
        for row in connection.execute(f"SELECT id, x FROM {table} ORDER BY id"):
            total.update(repr(row).encode())
    return total.hexdigest()[:24]


def _commit(connection: sqlite3.Connection, label: int) -> str:
    connection.execute("BEGIN IMMEDIATE")
    table = "ab"[label % 2]
    connection.execute(f"UPDATE {table} SET x = ? WHERE id = ?", (f"commit {label} " * 50, label * 37 % 500))
    connection.execute(f"INSERT INTO {table}(x) VALUES (?)", (f"new {label}",))
    connection.execute(f"PRAGMA user_version = {label}")
    digest = _digest(connection)
    connection.execute("COMMIT")
    return digest


def _open(database: str) -> sqlite3.Connection:
    return sqlite3.connect(database, isolation_level=None, timeout=5)


def _obey(database: str, words: list[str], held: list[sqlite3.Connection]) -> str:
    if words[0] == "quit":
        held.pop().close()
        return "done"
    if words[0] == "long":
        return _commit(held[0], int(words[1]))
    with contextlib.closing(_open(database)) as connection:
        if words[0] == "judge":
            (integrity,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            (label,) = connection.execute("PRAGMA user_version").fetchone()
            return f"{integrity.splitlines()[0]}|{label}|{_digest(connection)}"
        if words[0] == "checkpoint":
            _, n_frames, n_copied = connection.execute(f"PRAGMA wal_checkpoint({words[1]})").fetchone()
            return "whole" if n_frames == n_copied else "part"
        return _commit(connection, int(words[1]))


if __name__ == "__main__":
    connections: list[sqlite3.Connection] = []
    for line in sys.stdin:
        order = line.split()
        try:
            if order[0] == "long" and not connections:
                connections.append(_open(sys.argv[1]))
            print(_obey(sys.argv[1], order, connections), flush=True)
        except sqlite3.Error as err:
            print(FAILED if order[0] != "judge" else f"{err}|0|", flush=True)
            while order[0] == "long" and connections:  # a service opens another one after an error
                connections.pop().close()
