"""The service beside a capture: a process that runs statements on its database with the standard library's sqlite3."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SERVE = """
import json, sqlite3, sys
connections = {}
for line in sys.stdin:
    name, statements = json.loads(line)
    try:
        if statements is None:
            connections.pop(name).close()
            answer = []
        else:
            if name not in connections:
                connections[name] = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
            answer = [connections[name].execute(one).fetchall() for one in statements]
    except sqlite3.Error as err:
        answer = str(err)
    print(json.dumps(answer), flush=True)
"""


class Service:
    """Connections by name, in one process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, *statements: str, on: str = "main") -> list[list[list[object]]]:
        """Run statements on a connection, opened when first named; returns the rows of each. Fails on an SQLite error."""
        answer = self.answer(*statements, on=on)
        assert isinstance(answer, list), answer
        return answer

    def answer(self, *statements: str, on: str = "main") -> object:
        """As `run`, and an SQLite error is the answer."""
        return self._ask([on, list(statements)])

    def close(self, on: str = "main") -> None:
        """Close a connection, as SQLite does: the last one copies all frames back and removes the log."""
        self._ask([on, None])

    def _ask(self, request: object) -> object:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextmanager
def serving(path: Path) -> Iterator[Service]:
    """Run a service on a database until the block ends; it is then killed, which closes nothing."""
    words = [sys.executable, "-IS", "-c", _SERVE, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Service(process)
        finally:
            process.kill()


def make(path: Path, *, page_size: int = 4096) -> None:
    """Make a database in WAL mode with one table `t(n, x)`, closed: without a log."""
    with serving(path) as service:
        service.run(f"PRAGMA page_size={page_size}", "PRAGMA journal_mode=WAL", "CREATE TABLE t(n INTEGER PRIMARY KEY, x)")
        service.close()
