"""A history whose commit n is a pure function of n: what every commit did, and what the state after it is, can be replayed.

Each commit sets `user_version` to its own number inside the transaction. So page 1 is in every commit, the number of any state
is at a fixed place in it, and a capturer can be asked which commits it has without restoring one. All tables have a primary key
of integers or are WITHOUT ROWID: VACUUM changes pages, never content.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any, Protocol

PAGE_SIZES = (1024, 4096, 65536)

_SCHEMA = (
    "CREATE TABLE notes(id INTEGER PRIMARY KEY, n INTEGER, body TEXT)",
    "CREATE INDEX notes_n ON notes(n)",
    "CREATE TABLE counters(id INTEGER PRIMARY KEY, n INTEGER, total INTEGER)",
    "CREATE TABLE keyed(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID",
    "CREATE TABLE blobs(id INTEGER PRIMARY KEY, data BLOB)",
    "CREATE TABLE bulk(id INTEGER PRIMARY KEY, data BLOB)",
)
_N_COUNTERS = 48
_N_NOTES = 300
_N_KEYS = 97
_N_BLOBS = 12
_N_EXTRA = 3
# Pages of the largest transactions: 3 MB, 9 MB and 13 MB.
_BULK_PAGES = {1024: 3000, 4096: 2200, 65536: 200}
_PERIOD_BULK = 1000
_BULK_AT, _UNBULK_AT = 400, 407
_PERIOD_SCHEMA = 211
_PERIOD_ABORT = 61
_PERIOD_VACUUM = 1300
_PERIOD_GROW, _GROW_AT, _SHRINK_AT = 100, 30, 70
NEVER = 2_000_000_000  # the number of what is never committed
_SALT = 0x5EED
_POOL = Random(_SALT).randbytes(1 << 20)  # content is cut out of it: making bytes would cost more than the commit


class Connection(Protocol):
    """What `sqlite3` and `apsw` connections have in common."""

    def execute(self, statement: str, parameters: Any = ..., /) -> Any: ...

    def executemany(self, statement: str, rows: Iterable[Any], /) -> Any: ...


def create(connection: Connection, page_size: int) -> None:
    """Make the state of number 0 in a new database, in WAL mode. The connection commits by itself."""
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.executemany("INSERT INTO counters VALUES (?, 0, 0)", [(number,) for number in range(_N_COUNTERS)])
    connection.execute("COMMIT")


def number_of(connection: Connection) -> int:
    """Return the number of the last commit this transaction sees."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def number_in(page_1: bytes | memoryview) -> int:
    """Return the number of the commit that a raw image of page 1 belongs to."""
    return int.from_bytes(page_1[60:64], "big")


def apply(connection: Connection, n: int, page_size: int) -> None:
    """Do what commit n does, inside the caller's transaction."""
    rng = Random(n ^ _SALT)
    _small(connection, n, rng)
    if n % 5 == 0:
        _blob(connection, n, rng, page_size=page_size)
    if n % _PERIOD_GROW in (_GROW_AT, _SHRINK_AT):
        _breathe(connection, n)
    if n % _PERIOD_BULK in (_BULK_AT, _UNBULK_AT):
        _bulk(connection, n, page_size=page_size)
    if n % _PERIOD_SCHEMA == 0:
        _change_schema(connection, n // _PERIOD_SCHEMA - 1)
    connection.execute(f"PRAGMA user_version = {n}")


def aborts_before(n: int) -> bool:
    """Tell whether a transaction that spills into the WAL is rolled back before commit n is made."""
    return n % _PERIOD_ABORT == 0


def spill(connection: Connection, page_size: int) -> None:
    """Write more than the cache holds, so that frames nobody commits reach the WAL; the caller rolls back."""
    connection.execute("PRAGMA cache_size = 10")
    rows = [(100_000 + n, _bytes(n * 7919, page_size)) for n in range(60)]
    connection.executemany("INSERT INTO bulk VALUES (?, ?)", rows)
    connection.execute(f"PRAGMA user_version = {NEVER}")


def vacuums_after(n: int) -> bool:
    """Tell whether the writer of commit n tries a VACUUM: a commit of its own with the same number and the same content."""
    return n % _PERIOD_VACUUM == 0


def _small(connection: Connection, n: int, rng: Random) -> None:
    connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (n % _N_NOTES, n, f"note {n} {rng.random()}" * 4))
    connection.execute(
        "UPDATE counters SET n = ?, total = total * 31 % 1000003 + ? WHERE id = ?", (n, n, rng.randrange(_N_COUNTERS))
    )
    if n % 3 == 0:
        key = f"key {rng.randrange(_N_KEYS)}"
        connection.execute("INSERT OR REPLACE INTO keyed VALUES (?, ?)", (key, _bytes(n, rng.randrange(300))))
    if n % 7 == 0:
        connection.execute("DELETE FROM notes WHERE id = ?", (rng.randrange(_N_NOTES),))
        connection.execute("DELETE FROM keyed WHERE k = ?", (f"key {rng.randrange(_N_KEYS)}",))


def _blob(connection: Connection, n: int, rng: Random, *, page_size: int) -> None:
    """Replace a blob; one in four is longer than a page, whatever the page size, so it has overflow pages."""
    most = page_size * 3 if n % 20 == 0 else 2000
    connection.execute("INSERT OR REPLACE INTO blobs VALUES (?, ?)", (n % _N_BLOBS, _bytes(n, rng.randrange(most))))


def _breathe(connection: Connection, n: int) -> None:
    """Grow by some tens of rows, and forty commits later give all their pages back."""
    if n % _PERIOD_GROW == _GROW_AT:
        rows = [(10_000 + number, _bytes(n + number, 900)) for number in range(60)]
        connection.executemany("INSERT OR REPLACE INTO bulk VALUES (?, ?)", rows)
    else:
        connection.execute("DELETE FROM bulk WHERE id >= 10000 AND id < 20000")
        connection.execute("PRAGMA incremental_vacuum").fetchall()


def _bulk(connection: Connection, n: int, *, page_size: int) -> None:
    """Write thousands of pages in one commit; seven commits later delete them and cut the file."""
    if n % _PERIOD_BULK == _BULK_AT:
        n_rows = 40
        size = _BULK_PAGES[page_size] * page_size // n_rows
        connection.executemany("INSERT INTO bulk VALUES (?, ?)", [(row, _bytes(n + row, size)) for row in range(n_rows)])
    else:
        connection.execute("DELETE FROM bulk WHERE id < 10000")
        connection.execute("PRAGMA incremental_vacuum").fetchall()


def _change_schema(connection: Connection, turn: int) -> None:
    table = f"extra_{turn % _N_EXTRA}"
    if turn // _N_EXTRA % 2 == 0:
        connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, turn INTEGER)")
        connection.execute(f"CREATE INDEX {table}_turn ON {table}(turn)")
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(number, turn * number) for number in range(9)])
    else:
        connection.execute(f"DROP TABLE {table}")


def _bytes(key: int, size: int) -> bytes:
    """Return bytes that depend on the key alone."""
    start = key * 2654435761 % (len(_POOL) // 2)
    piece = _POOL[start : start + size]
    return piece + (_POOL * (size // len(_POOL) + 1))[: size - len(piece)] if len(piece) < size else piece
