"""Databases that reserve bytes on every page, written by real processes: plain SQLite, or SQLite with its `cksumvfs`."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START = """
import os, signal, struct, sys
import apsw, apsw.sqlite_extra
path = sys.argv[1]
if sys.argv[2] == 'sums':
    first = apsw.Connection(':memory:')
    first.enable_load_extension(True)
    apsw.sqlite_extra.load(first, 'cksumvfs')  # the default VFS of this process from now on
    first.close()
def connect(name=None):
    c = apsw.Connection(name or path)
    c.set_busy_timeout(20000)
    return c
def create(name, page_size, n_bytes, mode, n_rows=60):
    c = connect(name)
    c.reserve_bytes('main', n_bytes)
    c.execute(f'PRAGMA page_size={page_size}; VACUUM; PRAGMA journal_mode={mode}').fetchall()
    c.execute('CREATE TABLE t(id INTEGER PRIMARY KEY, x)')
    c.executemany('INSERT INTO t(x) VALUES (?)', [('row %d ' % i + 'y' * (i * 37 % 2900),) for i in range(n_rows)])
    return c
def change(c, n=20):
    with c:
        c.execute("UPDATE t SET x = 'changed ' || hex(randomblob(400)) WHERE id % 3 = 0")
        c.executemany('INSERT INTO t(x) VALUES (hex(randomblob(?)))', [(i * 31 % 1500,) for i in range(n)])
        c.execute('DELETE FROM t WHERE id % 7 = 5')
def checkpoint(c=None, mode=apsw.SQLITE_CHECKPOINT_TRUNCATE):
    c = c or connect()
    c.execute('PRAGMA schema_version').fetchall()  # before its first read it does not know of the log
    found, copied = c.wal_checkpoint(mode=mode)
    assert found == copied >= 0, (found, copied)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def wrong(name):
    'The documented checksum (https://sqlite.org/cksumvfs.html), word by word, of every page.'
    data, found = open(name, 'rb').read(), []
    (stored,) = struct.unpack_from('>H', data, 16)
    size = 65536 if stored == 1 else stored
    for at in range(0, len(data), size):
        words, s, t = struct.unpack_from(f'<{size // 4}I', data, at), 0, 0
        for i in range(0, size // 4 - 2, 2):
            s = s + words[i] + t & 0xffffffff
            t = t + words[i + 1] + s & 0xffffffff
        if (s, t) != words[-2:]:
            found.append(at // size + 1)
    return found
"""
# A WAL database with page checksums, in the hands of a service whose last commits are in the log alone.
LIVE = """
c = create(path, 4096, 8, 'wal'); checkpoint(c); c.wal_autocheckpoint(0); change(c)
"""
# A database that gets page checksums, which its log alone says.
SWITCHED = """
c = create(path, 4096, 0, 'wal'); checkpoint(c); c.wal_autocheckpoint(0); c.reserve_bytes('main', 8); c.execute('VACUUM')
"""
# A transaction half written into the main file by a killed process.
HOT = """
c = create(path, 4096, 8, 'delete'); c.execute("PRAGMA cache_size=5; BEGIN; UPDATE t SET x = 'torn' || hex(randomblob(3000))")
die()
"""


def run(path: Path, code: str, *, sums: bool = True) -> str:
    """Run `code` to its end, or its own SIGKILL, in another process and return what it printed."""
    words = [sys.executable, "-c", START + code, str(path), "sums" if sums else "plain"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.strip()


@contextmanager
def living(path: Path, code: str, *, sums: bool = True) -> Iterator[subprocess.Popen[str]]:
    """Run `code` and stay, holding what it opened; each line on its standard input runs `change(c)` once more."""
    more = "\nprint('ready', flush=True)\nfor line in sys.stdin:\n    change(c); print('changed', flush=True)\n"
    words = [sys.executable, "-c", START + code + more, str(path), "sums" if sums else "plain"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def judge(path: Path) -> str:
    """Return the pages whose checksum is wrong, and what SQLite with `cksumvfs` says: `[] ok` is a good file."""
    check = "apsw.Connection(f'file:{path}?immutable=1', flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)"
    return run(
        path,
        f"try:\n    said = {check}.execute('PRAGMA integrity_check').get\n"
        "except apsw.Error as err:\n    said = str(err)\nprint(wrong(path), said)",
    )


def rows(path: Path) -> str:
    """Return a digest of the rows that plain SQLite sees, read without leaving anything beside a file at rest."""
    return run(path, "print(connect().execute('SELECT count(*), sum(id), group_concat(hex(x)) FROM t').get)", sums=False)


def scramble(path: Path, *, page_size: int, n_bytes: int) -> bytes:
    """Fill the reserved bytes of every page of a file with chance, in place; returns the whole content."""
    chance = random.Random(f"{page_size} {n_bytes}")
    data = bytearray(path.read_bytes())
    for end in range(page_size, len(data) + 1, page_size):
        data[end - n_bytes : end] = chance.randbytes(n_bytes)
    with path.open("r+b") as file:
        file.write(data)
    return bytes(data)


def files(path: Path) -> dict[str, str]:
    """Return the digests of the database and what is beside it that holds content."""
    names = [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-journal"))]
    return {n.name: hashlib.sha256(n.read_bytes()).hexdigest() for n in names if n.exists() and n.stat().st_size}
