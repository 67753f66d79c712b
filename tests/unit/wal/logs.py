"""Real logs, written by SQLite itself in another process, and a reader of frames that shares nothing with ours."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_WRITE = """
import os, random, shutil, sqlite3, sys
path, page_size, n_commits, seed, copy = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
rng = random.Random(seed)
connection = sqlite3.connect(path, isolation_level=None)
connection.execute(f"PRAGMA page_size={page_size}")
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA wal_autocheckpoint=0")
connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
for number in range(n_commits):
    connection.execute("BEGIN")
    for _ in range(rng.randrange(1, 6)):
        connection.execute("INSERT INTO t (b) VALUES (?)", (rng.randbytes(rng.randrange(page_size)),))
    connection.execute("UPDATE t SET b = ? WHERE a = ?", (rng.randbytes(40), rng.randrange(1, number + 2)))
    if number % 7 == 6:
        connection.execute("DELETE FROM t WHERE a % 3 = 0")
    connection.execute("COMMIT")
for suffix in ("", "-wal", "-shm"):
    shutil.copyfile(path + suffix, copy + suffix)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The bytes of a database's -wal and -shm, copied while its writer had it open."""

    wal: bytes
    shm: bytes
    page_size: int


def make_log(directory: Path, *, page_size: int, n_commits: int, seed: int = 1) -> Log:
    """Have SQLite write a log."""
    copy = directory / f"copy-{page_size}-{seed}.db"
    words = [str(directory / f"live-{page_size}-{seed}.db"), str(page_size), str(n_commits), str(seed), str(copy)]
    subprocess.run([sys.executable, "-c", _WRITE, *words], check=True)
    wal = copy.with_name(f"{copy.name}-wal").read_bytes()
    return Log(wal=wal, shm=copy.with_name(f"{copy.name}-shm").read_bytes(), page_size=page_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    pgno: int
    size: int
    checksum: tuple[int, int]
    page: bytes


def frames_of(log: Log) -> list[Frame]:
    """Read the frames one by one, each proven word by word as the documentation of the format says."""
    order = ">" if log.wal[:4] == struct.pack(">I", 0x377F0683) else "<"
    total = _sum(log.wal[:24], (0, 0), order)
    found, at = [], 32
    while at < len(log.wal):
        pgno, size, *_, one, two = struct.unpack(">IIIIII", log.wal[at : at + 24])
        page = log.wal[at + 24 : at + 24 + log.page_size]
        total = _sum(log.wal[at : at + 8] + page, total, order)
        assert total == (one, two)
        found.append(Frame(pgno=pgno, size=size, checksum=total, page=page))
        at += 24 + log.page_size
    return found


def _sum(data: bytes, seed: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for x, y in zip(words[::2], words[1::2], strict=True):
        one = (one + x + two) % 2**32
        two = (two + y + one) % 2**32
    return one, two


def big_endian(log: Log) -> bytes:
    """Return the log as a machine of the other byte order writes it: other checksums, the same pages."""
    out = bytearray(struct.pack(">I", 0x377F0683) + log.wal[4:24])
    total = _sum(bytes(out), (0, 0), ">")
    out += struct.pack(">II", *total)
    for at in range(32, len(log.wal), 24 + log.page_size):
        head, page = log.wal[at : at + 16], log.wal[at + 24 : at + 24 + log.page_size]
        total = _sum(head[:8] + page, total, ">")
        out += head + struct.pack(">II", *total) + page
    return bytes(out)
