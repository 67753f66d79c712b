"""The other process: the standard library's sqlite3 makes histories there and bears witness about files.

It shares no code with the product, and never runs in the process that has the product's own SQLite.
"""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ParamSpec, TypeVar

from continuum_tasks.sample import generate, oracle, writer

P = ParamSpec("P")
T = TypeVar("T")

# What two faithful copies may differ in, all on page 1: change counter, schema cookie, version-valid-for and library version.
_MAY_DIFFER = (slice(24, 28), slice(40, 44), slice(92, 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a database is like from its birth. `auto_vacuum` as SQLite counts: 0 none, 1 full, 2 incremental."""

    journal: str
    page_size: int
    auto_vacuum: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """The committed state of a database file: a hash of its schema and rows, and one of each raw page."""

    logical: str
    page_size: int
    pages: tuple[bytes, ...]

    def differing(self, other: Witness) -> set[int]:
        """Return the numbers of the pages that are new or other than in `other`."""
        old = dict(enumerate(other.pages, 1))
        return {pgno for pgno, page in enumerate(self.pages, 1) if old.get(pgno) != page}


def beside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function of this module in the other process and return its result."""
    return _pool().submit(function, *args, **kwargs).result(timeout=600)


def witness(path: Path) -> Witness:
    """Return what is committed in a quiet database, its -wal included, without touching it. Call it in the test's process."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        for suffix in ("-wal", "-journal"):
            if path.with_name(path.name + suffix).exists():
                shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
        return beside(look_at, copy)


def look_at(path: Path) -> Witness:
    logical = oracle.logical_hash(path).sha256
    with closing(_connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        problems = connection.execute("PRAGMA integrity_check").fetchall()
    if problems != [("ok",)]:
        raise AssertionError(f"{path}: {problems[:3]}")
    image = bytearray(path.read_bytes())
    for part in _MAY_DIFFER:
        image[part] = bytes(part.stop - part.start)
    view = memoryview(image)
    pages = tuple(hashlib.sha256(view[at : at + page_size]).digest() for at in range(0, len(image), page_size))
    return Witness(logical=logical, page_size=page_size, pages=pages)


def logical(path: Path) -> str:
    """Open the database itself, as the service would, and hash its schema and rows."""
    return oracle.logical_hash(path).sha256


def sample(path: Path, shape: Shape, *, size_bytes: int, seed: int) -> None:
    spec = generate.SampleSpec(
        size_bytes=size_bytes, seed=seed, journal_mode=generate.JournalMode(shape.journal), page_size=shape.page_size
    )
    generate.generate(path, spec)


def commits(path: Path, n_commits: int, *, seed: int) -> int:
    """Make the sample writer's next commits and return the number of the last one."""
    last = 0
    for commit in writer.write(path, writer.WritePlan(rate=1e6, commits=n_commits, seed=seed)):
        last = commit.sequence
    return last


def last_commit(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (last,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM thinking_snapshots").fetchone()
    return int(last)


def create(path: Path, shape: Shape, *, seed: int) -> None:
    """Make a small database of that shape with ordinary, WITHOUT ROWID and full-text tables."""
    with closing(_connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={shape.page_size}")
        connection.execute(f"PRAGMA auto_vacuum={shape.auto_vacuum}")
        connection.execute(f"PRAGMA journal_mode={shape.journal}").fetchall()
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b BLOB)")
        connection.execute("CREATE INDEX t_a ON t(a)")
        connection.execute("CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
        connection.execute("CREATE VIRTUAL TABLE f USING fts5(body)")
        _insert(connection, Random(seed))
    work(path, seed=seed, n_actions=2)


def work(path: Path, *, seed: int, n_actions: int) -> None:
    """Do a few random things to the database, and stay connected: in WAL mode the commits then stay in the -wal."""
    rng = Random(seed)
    connection = _connection(path)
    connection.execute(f"PRAGMA wal_autocheckpoint={rng.choice((0, 0, 10, 1000))}").fetchall()
    for _ in range(n_actions):
        rng.choice(_ACTIONS)(connection, rng)


def attend(path: Path) -> None:
    """Stay connected, idle: in WAL mode what others commit then stays in the -wal until it has 1,000 pages."""
    _connection(path).execute("SELECT count(*) FROM sqlite_schema").fetchall()


def release(path: Path) -> None:
    """Close what `work` or `attend` left open; the last one out checkpoints."""
    held = _held.pop(path, None)
    if held is not None:
        held.close()


def change_page_size(path: Path, page_size: int) -> None:
    release(path)
    with closing(_connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("VACUUM")
        connection.execute(f"PRAGMA journal_mode={mode}").fetchall()


def script(path: Path, *statements: str, page_size: int = 4096) -> list[tuple[object, ...]]:
    """Run statements, each its own transaction, and return the rows of the last."""
    rows: list[tuple[object, ...]] = []
    with closing(_connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")  # counts for a file that is made now
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


def stretch(path: Path, *, n_pages: int) -> None:
    """Make a quiet database that many pages large by telling its header so; the new pages are a hole and used by nothing."""
    with path.open("r+b") as file:
        header = file.read(100)
        page_size = int.from_bytes(header[16:18], "big")
        file.seek(28)
        file.write(n_pages.to_bytes(4, "big"))
        file.truncate(n_pages * (65536 if page_size == 1 else page_size))


_held: dict[Path, sqlite3.Connection] = {}


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")  # no test here cuts the power, and an fsync costs 1.6 ms
    return connection


def _connection(path: Path) -> sqlite3.Connection:
    if path not in _held:
        _held[path] = _connect(path)
    return _held[path]


def _words(rng: Random) -> str:
    return " ".join(rng.choice(("alpha", "beta", "gamma", "delta", "omega")) + str(rng.randrange(999)) for _ in range(9))


def _insert(connection: sqlite3.Connection, rng: Random) -> None:
    rows = [(_words(rng), rng.randbytes(rng.randrange(80))) for _ in range(rng.randrange(1, 250))]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t(a, b) VALUES (?, ?)", rows)
    connection.execute("COMMIT")


def _overflow(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute("INSERT INTO t(a, b) VALUES ('large', ?)", (rng.randbytes(rng.randrange(200_000)),))


def _update(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute("UPDATE t SET a = ? WHERE id % ? = 0", (_words(rng), rng.randrange(3, 60)))


def _delete(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute("DELETE FROM t WHERE id % ? = 1", (rng.randrange(1, 8),))


def _without_rowid(connection: sqlite3.Connection, rng: Random) -> None:
    for _ in range(rng.randrange(1, 120)):
        connection.execute("INSERT OR REPLACE INTO w VALUES (?, ?)", (_words(rng)[:12], rng.randbytes(30)))
    connection.execute("DELETE FROM w WHERE k < ?", (_words(rng)[:3],))


def _full_text(connection: sqlite3.Connection, rng: Random) -> None:
    connection.executemany("INSERT INTO f VALUES (?)", [(_words(rng),) for _ in range(rng.randrange(1, 40))])
    connection.execute("DELETE FROM f WHERE rowid % 5 = ?", (rng.randrange(5),))
    connection.execute("INSERT INTO f(f) VALUES ('optimize')")


def _table(connection: sqlite3.Connection, rng: Random) -> None:
    name = f"x{rng.randrange(4)}"
    connection.execute(f"DROP TABLE IF EXISTS {name}")
    if rng.random() < 0.7:
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM t LIMIT {rng.randrange(200)}")


def _index(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute("DROP INDEX IF EXISTS t_b")
    if rng.random() < 0.7:
        connection.execute("CREATE INDEX t_b ON t(b)")


def _vacuum(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute("VACUUM")


def _give_back(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute(f"PRAGMA incremental_vacuum({rng.randrange(1, 20)})").fetchall()


def _shrink(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute("DELETE FROM t WHERE id > 3")
    connection.execute("VACUUM")


def _number(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute(f"PRAGMA user_version={rng.randrange(1 << 30)}")


def _switch_journal(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute(f"PRAGMA journal_mode={rng.choice(('delete', 'wal'))}").fetchall()


_ACTIONS: tuple[Callable[[sqlite3.Connection, Random], None], ...] = (
    *(_insert, _insert, _overflow, _update, _update, _delete, _without_rowid, _full_text, _table),
    *(_index, _vacuum, _give_back, _shrink, _number, _switch_journal),
)


@functools.cache
def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
