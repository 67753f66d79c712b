"""Make a `memory.db` of a wanted size: the same seed, size and page size give the same rows, byte for byte."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from math import ceil
from pathlib import Path

from continuum_tasks.sample import rows, schema, text
from continuum_tasks.sample.rows import Palette, Row, build

N_TENANTS = 24
_MIN_PAGES = 64  # 35 of them are the roots of tables and indexes
_MIN_BYTES = 512 * 1024
_BYTES_A_STEP = 6700  # what one message and its share of all else take, measured at 4096-byte pages
_STEPS_A_BATCH = 1024
_BATCHES_A_COMMIT = 16
# The indexes made afterwards take 4 to 5 % of the file; what then is missing goes in with the indexes in place.
_SHARE_BEFORE_INDEXES = 0.93


class JournalMode(StrEnum):
    DELETE = "delete"
    WAL = "wal"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """What to make. Raises ValueError for a size or page size that no sample can have."""

    size_bytes: int
    seed: int = 1
    journal_mode: JournalMode = JournalMode.DELETE
    page_size: int = 4096

    def __post_init__(self) -> None:
        if self.page_size not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
            raise ValueError(f"page size {self.page_size}: not a power of two from 512 to 65536")
        least = max(_MIN_BYTES, _MIN_PAGES * self.page_size)
        if self.size_bytes < least:
            raise ValueError(f"size {self.size_bytes}: the least at page size {self.page_size} is {least} bytes")


def generate(path: Path, spec: SampleSpec) -> dict[str, int]:
    """Write the sample to a new file (mode 0600) and return its rows by table; what fails half-way is removed.

    Raises FileExistsError, and sqlite3.OperationalError when the disk is full.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with ExitStack() as undo:
        undo.callback(path.unlink)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            _prepare(connection, spec)
            n_rows = _fill(connection, spec)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA journal_mode = {spec.journal_mode}")  # last: content and layout do not depend on it
        undo.pop_all()
    return n_rows


def _prepare(connection: sqlite3.Connection, spec: SampleSpec) -> None:
    connection.execute(f"PRAGMA page_size = {spec.page_size}")
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -65536"):
        connection.execute(f"PRAGMA {pragma}")


def _fill(connection: sqlite3.Connection, spec: SampleSpec) -> dict[str, int]:
    n_pages = spec.size_bytes // spec.page_size
    connection.execute("BEGIN")
    schema.create_tables(connection)
    growth = _Growth(connection, _plant(connection, spec))
    growth.grow(int((n_pages - len(schema.INDEXES)) * _SHARE_BEFORE_INDEXES))
    schema.create_indexes(connection)
    growth.grow(n_pages)
    connection.execute("COMMIT")
    return {"tenants": N_TENANTS, **growth.last}


def _plant(connection: sqlite3.Connection, spec: SampleSpec) -> Palette:
    rng = text.seeded("sample", spec.seed)
    palette = Palette(rng=rng, lexicon=text.build(spec.seed), vectors=build(rng), tenants=())
    tenants = [rows.tenant(palette, rank) for rank in range(N_TENANTS)]
    connection.executemany(rows.insert_statement("tenants", tenants[0]), tenants)
    busy = rows.busy_tenants([str(tenant[0]) for tenant in tenants])
    return Palette(rng=rng, lexicon=palette.lexicon, vectors=palette.vectors, tenants=busy)


class _Growth:
    """The one thing here that changes: how many rows of each table there are."""

    def __init__(self, connection: sqlite3.Connection, palette: Palette) -> None:
        self._connection = connection
        self._palette = palette
        self._n_steps = 0
        self.last: dict[str, int] = dict.fromkeys((*rows.SHARES, "embeddings"), 0)

    def grow(self, n_pages: int) -> None:
        """Add rows to all tables until the file has this many pages; never more than one step too far."""
        page_size = self._pragma("page_size")
        for n_batches in count(1):
            missing = n_pages - self._pragma("page_count")
            if missing <= 0:
                return
            # three quarters of the way each time: the last batches are single steps
            self._add(max(1, min(_STEPS_A_BATCH, missing * page_size * 3 // 4 // _BYTES_A_STEP)))
            if n_batches % _BATCHES_A_COMMIT == 0:
                self._connection.execute("COMMIT")
                self._connection.execute("BEGIN")

    def _add(self, n_steps: int) -> None:
        self._n_steps += n_steps
        before = dict(self.last)
        for table, share in rows.SHARES.items():
            maker, first, until = rows.MAKERS[table], before[table] + 1, ceil(self._n_steps * share) + 1
            self._insert(table, (maker(self._palette, row_id, self.last) for row_id in range(first, until)))
            self.last[table] = until - 1
        for kind in rows.EMBEDDED:
            owners = range(before[kind] + 1, self.last[kind] + 1)
            first = self.last["embeddings"] + 1
            made = (rows.embedding(self._palette, first + n, owner_kind=kind, owner_id=owner) for n, owner in enumerate(owners))
            self._insert("embeddings", made)
            self.last["embeddings"] += len(owners)

    def _insert(self, table: str, made: Iterator[Row]) -> None:
        first = next(made, None)
        if first is not None:
            statement = rows.insert_statement(table, first)
            self._connection.execute(statement, first)
            self._connection.executemany(statement, made)

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
