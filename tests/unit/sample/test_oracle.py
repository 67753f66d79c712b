"""The oracle: equal rows have equal hashes, and the smallest difference shows."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from continuum_tasks.sample.oracle import logical_hash


def make(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def test_one_changed_byte_in_one_blob_is_noticed_and_located(sample: Path) -> None:
    before = logical_hash(sample)

    with closing(sqlite3.connect(sample)) as connection:
        (blob,) = connection.execute("SELECT vector FROM embeddings WHERE id = 7").fetchone()
        flipped = blob[:700] + bytes([blob[700] ^ 1]) + blob[701:]
        connection.execute("UPDATE embeddings SET vector = ? WHERE id = 7", (flipped,))
        connection.commit()

    after = logical_hash(sample)
    assert after.sha256 != before.sha256
    assert (after.schema, after.counts) == (before.schema, before.counts)
    assert {table for table in after.tables if after.tables[table] != before.tables[table]} == {"embeddings"}


def test_a_vacuum_changes_pages_and_not_the_hash(sample: Path) -> None:
    make(sample, "DELETE FROM attention_links WHERE id % 3 = 0")
    before, size_bytes = logical_hash(sample), sample.stat().st_size

    make(sample, "VACUUM")

    assert sample.stat().st_size != size_bytes
    assert logical_hash(sample) == before


def test_the_order_of_insertion_does_not_matter(tmp_path: Path) -> None:
    schema = (
        "CREATE TABLE a (id INTEGER PRIMARY KEY, v)",
        "CREATE TABLE b (k TEXT, n, PRIMARY KEY (n, k)) WITHOUT ROWID",
        "CREATE TABLE c (rowid, oid, _rowid_)",  # no name is left for its rowid: the columns give the order
    )
    rows = [
        f"INSERT INTO {values}"
        for values in (
            *("a VALUES (1, 'x')", "a VALUES (2, 'y')", "b VALUES ('p', 2)", "b VALUES ('q', 1)"),
            *("c VALUES (1, 2, 3)", "c VALUES (3, 2, 1)"),
        )
    ]

    one = make(tmp_path / "one.db", *schema, *rows)
    other = make(tmp_path / "other.db", *schema, *reversed(rows))

    assert logical_hash(one) == logical_hash(other)


def test_values_of_different_types_never_look_alike(tmp_path: Path) -> None:
    values = ("1", "1.0", "'1'", "x'31'", "NULL", "''", "x''", "'1' || char(0)", "0", "CAST(x'ff' AS TEXT)", "x'ff'")

    hashes = {
        logical_hash(make(tmp_path / f"{n}.db", "CREATE TABLE t (v)", f"INSERT INTO t VALUES ({value})")).sha256
        for n, value in enumerate(values)
    }

    assert len(hashes) == len(values)


def test_moving_bytes_between_columns_is_noticed(tmp_path: Path) -> None:
    schema = "CREATE TABLE t (a, b)"

    one = make(tmp_path / "one.db", schema, "INSERT INTO t VALUES ('ab', 'c')")
    other = make(tmp_path / "other.db", schema, "INSERT INTO t VALUES ('a', 'bc')")

    assert logical_hash(one).sha256 != logical_hash(other).sha256


@pytest.mark.parametrize(
    "statement",
    ["CREATE INDEX i ON t (v)", "PRAGMA user_version = 9", "PRAGMA application_id = 9", "CREATE VIEW w AS SELECT 1"],
)
def test_a_change_of_the_schema_alone_is_noticed(tmp_path: Path, statement: str) -> None:
    path = make(tmp_path / "one.db", "CREATE TABLE t (v)")
    before = logical_hash(path)

    make(path, statement)

    assert logical_hash(path).sha256 != before.sha256
    assert logical_hash(path).tables == before.tables


def test_odd_tables_are_read_too(tmp_path: Path) -> None:
    path = make(
        tmp_path / "odd.db",
        'CREATE TABLE "we""ird" (rowid TEXT, "or der" INT, c AS ("or der" + 1), d AS ("or der" + 2) STORED)',
        'INSERT INTO "we""ird" (rowid, "or der") VALUES (\'a\', 1), (\'b\', 2)',
        "CREATE TABLE taken (rowid, oid, _rowid_)",
        "INSERT INTO taken VALUES (3, 2, 1), (1, 2, 3)",
        "CREATE VIRTUAL TABLE notes USING fts5(body)",
        "INSERT INTO notes VALUES ('the quick fox')",
    )
    before = logical_hash(path)

    make(path, "UPDATE notes SET body = 'the quick cat'")

    after = logical_hash(path)
    assert before.counts['we"ird'] == 2
    assert before.counts["taken"] == 2
    assert "notes" not in before.counts
    assert after.tables["notes_content"] != before.tables["notes_content"]


def test_a_wal_database_is_hashed_with_its_wal_and_nothing_is_left_beside_a_closed_one(tmp_path: Path) -> None:
    path = make(tmp_path / "memory.db", "CREATE TABLE t (v)", "PRAGMA journal_mode = wal")
    empty = logical_hash(path)
    live = sqlite3.connect(path, isolation_level=None)
    live.execute("INSERT INTO t VALUES (1)")

    seen = logical_hash(path)
    live.close()
    closed = logical_hash(path)

    assert seen == closed
    assert seen.counts == {"t": 1}
    assert seen.sha256 != empty.sha256
    assert list(tmp_path.iterdir()) == [path]


def test_a_copy_has_the_hash_of_the_original(sample: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copyfile(sample, tmp_path / "copy with ? and # in it.db"))

    assert logical_hash(copy) == logical_hash(sample)


def test_a_missing_file_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        logical_hash(tmp_path / "gone.db")

    assert list(tmp_path.iterdir()) == []
