"""A service that nobody stopped: processes that open, commit and close again and again, one that opens late, and a judge.

They use the standard library's sqlite3, each in a process of its own, and share no code with the product.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A line for each commit: when its connection was opened, when its transaction was begun, its token; monotonic nanoseconds.
_WRITER = """
import json, random, sqlite3, sys, time, select
path, log, name, seed, pause = sys.argv[1:]
rng, n = random.Random(int(seed)), 0
out = open(log, 'a', buffering=1)
while True:
    if select.select([sys.stdin], [], [], rng.random() * float(pause))[0]:
        break
    opened, token = time.monotonic_ns(), f'{name}-{n}'
    n += 1
    try:
        connection = sqlite3.connect(f'file:{path}?mode=rw', uri=True, timeout=1, isolation_level=None)
        time.sleep(rng.random() * 0.003)
        for _ in range(rng.randrange(1, 3)):
            began = time.monotonic_ns()
            connection.execute('BEGIN IMMEDIATE')
            connection.execute('INSERT INTO acked VALUES (?, ?)', (token, '.' * rng.randrange(9000)))
            connection.execute('UPDATE filler SET x = hex(randomblob(300)) WHERE id % 7 = ?', (rng.randrange(7),))
            connection.execute('COMMIT')
            print(json.dumps([opened, began, token]), file=out)
            token, n = f'{name}-{n}', n + 1
    except sqlite3.OperationalError as err:
        if 'locked' not in str(err) and 'unable to open' not in str(err):
            print(json.dumps(['error', time.monotonic_ns(), str(err)]), file=out)
    except sqlite3.DatabaseError as err:
        print(json.dumps(['error', time.monotonic_ns(), str(err)]), file=out)
    finally:
        connection.close()
"""
# Obeys `open`, `use TOKEN` and `close`.
_LATE = """
import sqlite3, sys
path, connection = sys.argv[1], None
for line in sys.stdin:
    word, _, token = line.strip().partition(' ')
    said = word
    try:
        if word == 'open':
            connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        elif word == 'use':
            connection.execute('BEGIN IMMEDIATE')
            connection.execute('INSERT INTO acked VALUES (?, ?)', (token, '.' * 9000))
            connection.execute("UPDATE filler SET x = 'late' || hex(randomblob(400))")
            connection.execute('COMMIT')
        else:
            connection.close()
    except sqlite3.DatabaseError as err:
        said = str(err)
    print(said, flush=True)
"""
_JUDGE = """
import json, sqlite3, sys
for line in sys.stdin:
    found = {}
    try:
        connection = sqlite3.connect(line.strip(), timeout=30, isolation_level=None)
        connection.execute('BEGIN')
        found['tokens'] = [token for token, in connection.execute('SELECT token FROM acked')]
        found['integrity'] = [text for text, in connection.execute('PRAGMA integrity_check')]
        connection.execute('COMMIT')
        connection.close()
    except sqlite3.DatabaseError as err:
        found['integrity'] = [str(err)]
    print(json.dumps(found), flush=True)
"""
_MAKE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(f'PRAGMA journal_mode = {sys.argv[2]}')
connection.execute('CREATE TABLE acked(token TEXT, padding TEXT)')
connection.execute('CREATE INDEX by_token ON acked(token)')
connection.execute('CREATE TABLE filler(id INTEGER PRIMARY KEY, x TEXT)')
connection.execute('CREATE INDEX by_x ON filler(x)')
connection.execute('BEGIN')
connection.executemany('INSERT INTO filler(x) VALUES (?)', [(f'{n} ' + '-' * 300,) for n in range(200)])
connection.execute('COMMIT')
connection.close()
"""
_PYTHON = (sys.executable, "-IS", "-c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge sees: `integrity` is `("ok",)` for a sound database."""

    integrity: tuple[str, ...]
    tokens: frozenset[str]


class Teller:
    """A process that answers each line by a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def tell(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A database, who writes it (their logs), who opens it late, and who judges."""

    path: Path
    logs: tuple[Path, ...]
    late: Teller
    judge: Teller

    def verdict(self, path: Path | None = None) -> Verdict:
        found: dict[str, Any] = json.loads(self.judge.tell(str(path or self.path)))
        return Verdict(integrity=tuple(found["integrity"]), tokens=frozenset(found.get("tokens", ())))

    def acked(self, *, since_ns: int) -> set[str]:
        """Return what writers were told is committed, of transactions that began since."""
        return {token for first, began, token in self._lines() if first != "error" and began > since_ns}

    def errors(self) -> list[str]:
        """Return what writers were told that is neither success nor `locked`."""
        return [text for first, _, text in self._lines() if first == "error"]

    def await_commits(self, *, since_ns: int, least: int) -> bool:
        """Wait until writers committed that often since then; False when they never do."""
        deadline = time.monotonic() + 60
        while len(self.acked(since_ns=since_ns)) < least:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _lines(self) -> list[list[Any]]:
        return [json.loads(line) for log in self.logs for line in log.read_text().splitlines(keepends=True) if line[-1] == "\n"]


def make_database(path: Path, *, journal: str) -> None:
    subprocess.run([*_PYTHON, _MAKE, str(path), journal], check=True)


@contextmanager
def field(path: Path, logs: Path, *, n_writers: int, pause_seconds: float) -> Iterator[Field]:
    """Run the writers of an existing database until the block ends."""
    logs.mkdir()
    names = tuple(logs / f"w{n}" for n in range(n_writers))
    with ExitStack() as stack:
        late, judge = Teller(_start(stack, _LATE, path)), Teller(_start(stack, _JUDGE))
        for seed, log in enumerate(names):
            log.touch()
            _start(stack, _WRITER, path, log, log.name, seed, pause_seconds)
        yield Field(path=path, logs=names, late=late, judge=judge)


def _start(stack: ExitStack, code: str, *arguments: object) -> subprocess.Popen[str]:
    process = stack.enter_context(
        subprocess.Popen([*_PYTHON, code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    assert process.stdin is not None
    stack.callback(process.kill)
    stack.callback(process.wait, 30)
    stack.callback(process.stdin.close)
    return process
