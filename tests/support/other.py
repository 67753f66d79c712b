"""The service beside us: real processes that use the standard library's sqlite3, as CONTINUUM does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START = """
import os, signal, sqlite3, sys, time
path = sys.argv[1]
def connect(**options):
    return sqlite3.connect(path, isolation_level=None, **options)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(path: Path, code: str, *args: object) -> str:
    """Run `code` to its end (or its own SIGKILL) in another process and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", START + code, str(path), *map(str, args)], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.strip()


def sql(path: Path, text: str) -> str:
    """Run statements in another process and return all rows."""
    return run(
        path, f"c = connect()\nfor q in {text!r}.split('; '): print(*c.execute(q).fetchall(), sep='\\n', end='')\nc.close()"
    )


def write(path: Path, *, timeout: float = 0) -> str:
    """Commit one row from another process: `written`, or what SQLite said."""
    return run(
        path,
        f"""
c = connect(timeout={timeout})
try:
    c.execute('CREATE TABLE IF NOT EXISTS beside(n)'); c.execute('INSERT INTO beside VALUES (1)'); print('written')
except sqlite3.DatabaseError as err:
    print(err)
c.close()
""",
    )


def dump(path: Path) -> str:
    """Return the logical content as another process sees it."""
    return run(path, "c = connect(); print('\\n'.join(c.iterdump())); print(c.execute('PRAGMA integrity_check').fetchall())")


@contextmanager
def living(path: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """Run `code` and stay, holding whatever it opened, until the block ends."""
    source = START + code + "\nprint('ready', flush=True)\nsys.stdin.readline()\n"
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", source, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


ROLLBACK = """
c = connect(); c.execute('CREATE TABLE t(id INTEGER PRIMARY KEY, x)')
c.execute('BEGIN'); rows = [('old %d' % i + 'x' * 200,) for i in range(500)]
c.executemany('INSERT INTO t(x) VALUES (?)', rows); c.execute('COMMIT')
"""
# Commits that are in the -wal alone, left by a killed process.
WAL = f"""
c = connect(); c.execute('PRAGMA journal_mode=WAL'); c.execute('PRAGMA wal_autocheckpoint=0'); c.close()
{ROLLBACK.replace("c = connect();", "c = connect(); c.execute('PRAGMA wal_autocheckpoint=0');")}
die()
"""
# A transaction half written into the main file, left by a killed process: the journal is hot.
HOT = f"""
{ROLLBACK}
c.execute('PRAGMA cache_size=5'); c.execute('BEGIN'); c.execute("UPDATE t SET x = 'torn' || hex(randomblob(300))")
die()
"""


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Be an ordinary user who owns everything under `folder`: permissions mean nothing to root."""
    root = os.geteuid() == 0
    if root:
        for part in (folder, *folder.rglob("*")):
            os.chown(part, 65534, 65534)
        os.setresgid(65534, 65534, 0)
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
