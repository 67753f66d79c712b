"""Change a fraction of all rows in place, spread over the tables: what a second backup finds after a quiet day."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from random import Random

from continuum_tasks.sample import text
from continuum_tasks.sample.rows import Vectors, build, vector
from continuum_tasks.sample.text import Lexicon

# What changes in each table: never an indexed column and never the length of the row, so each row touches about one page.
_COLUMNS: Mapping[str, str] = {
    "entities": "access_count",
    "messages": "content",
    "decisions": "rationale",
    "attention_links": "strength",
    "compound_concepts": "summary",
    "auto_messages": "content",
    "intentions": "goal",
    "concept_evolution": "change",
    "thinking_snapshots": "thoughts",
    "code_memories": "source",
    "embeddings": "vector",
}

_Value = str | int | float | bytes


def change(path: Path, *, fraction: float, seed: int) -> dict[str, int]:
    """Change this fraction of the rows (one at least) in one transaction and return the rows changed by table.

    The same seed changes the same rows of the same database to the same values. Raises ValueError for a fraction
    outside 0 to 1 and sqlite3.OperationalError for a missing file or one that is not a sample.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}: not above 0 and at most 1")
    rng = text.seeded("change", seed)
    renew = _renewer(rng, text.build(seed), build(rng))
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60, isolation_level=None)
    ) as connection:
        connection.execute("BEGIN IMMEDIATE")
        chosen = _choose(connection, rng, fraction)
        for table, ids in chosen.items():
            _renew(connection, table, ids, renew)
        connection.execute("COMMIT")
    return {table: len(ids) for table, ids in chosen.items()}


def _choose(connection: sqlite3.Connection, rng: Random, fraction: float) -> dict[str, list[int]]:
    ids = {table: _ids(connection, table) for table in _COLUMNS}
    wanted = max(1, round(fraction * sum(map(len, ids.values()))))
    chosen: dict[str, list[int]] = {}
    n_seen = n_chosen = 0
    n_rows = sum(map(len, ids.values()))
    for table, present in ids.items():
        n_seen += len(present)
        n = wanted * n_seen // n_rows - n_chosen  # what is still owed, so that the parts add up to the whole
        chosen[table] = sorted(rng.sample(present, min(n, len(present))))
        n_chosen += len(chosen[table])
    return chosen


def _ids(connection: sqlite3.Connection, table: str) -> array[int]:
    # sorted here: SQLite reads the ids from the smallest index, in that index's order
    statement = f"SELECT id FROM {table}"  # noqa: S608 - table names are ours
    return array("q", sorted(row_id for (row_id,) in connection.execute(statement)))


def _renew(connection: sqlite3.Connection, table: str, ids: list[int], renew: Callable[[_Value], _Value]) -> None:
    column = _COLUMNS[table]
    for row_id in ids:
        (old,) = connection.execute(f"SELECT {column} FROM {table} WHERE id = ?", (row_id,)).fetchone()  # noqa: S608
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (renew(old), row_id))  # noqa: S608


def _renewer(rng: Random, lexicon: Lexicon, pool: Vectors) -> Callable[[_Value], _Value]:
    def renew(old: _Value) -> _Value:
        if isinstance(old, bytes):
            return vector(pool, rng)
        if isinstance(old, float):
            return (old + 0.1 + rng.random() / 2) % 1.0
        if isinstance(old, int):
            return old + 1
        # as many bytes as before: ASCII only, where the old text may hold two-byte letters
        return text.exact_prose(lexicon, rng, len(old.encode())).encode("ascii", "replace").decode()

    return renew
