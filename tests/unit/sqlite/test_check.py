from __future__ import annotations

import random
from pathlib import Path

import pytest

from continuum_tasks.errors import ProofFailed
from continuum_tasks.sqlite.check import foreign_key_check, integrity_check, quick_check_file, row_counts_file, schema_digest
from tests.support import other

_SCHEMA = (
    "CREATE TABLE a(id INTEGER PRIMARY KEY, x); CREATE TABLE b(a REFERENCES a(id)); CREATE INDEX i ON a(x); "
    'CREATE TABLE "odd ""name"(x); CREATE VIRTUAL TABLE f USING fts5(body); CREATE TABLE w(k PRIMARY KEY) WITHOUT ROWID; '
    "INSERT INTO a(x) VALUES (1), (2), (3); INSERT INTO b VALUES (1); INSERT INTO f VALUES ('words'); CREATE VIEW v AS SELECT 1"
)


@pytest.fixture(params=["delete", "wal"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "private#?%41.db"  # a name that means something else in a URI
    other.sql(path, f"PRAGMA journal_mode={request.param}; {_SCHEMA}")
    return path


def test_a_good_file_passes_every_check_and_nothing_is_left_beside_it(path: Path) -> None:
    before = path.stat()

    assert quick_check_file(path) == integrity_check(path) == foreign_key_check(path) == ()
    assert row_counts_file(path) == (("a", 3), ("b", 1), ("f", 1), ('odd "name', 0), ("w", 0))
    assert len(schema_digest(path)) == 64

    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_the_schema_digest_follows_the_schema_and_nothing_else(path: Path) -> None:
    before = schema_digest(path)
    other.sql(path, "INSERT INTO a(x) VALUES (9); VACUUM")
    assert schema_digest(path) == before
    other.sql(path, "CREATE INDEX j ON b(a)")
    assert schema_digest(path) != before


def test_a_row_that_refers_to_nothing_is_found(path: Path) -> None:
    other.sql(path, "INSERT INTO b VALUES (99)")
    assert foreign_key_check(path) == ("b: row 2 refers to a missing row of a",)
    assert integrity_check(path) == ()


def test_findings_are_at_most_a_hundred(path: Path) -> None:
    other.run(path, "c = connect(); c.executemany('INSERT INTO b VALUES (?)', [(i,) for i in range(50, 250)])")
    assert len(foreign_key_check(path)) == 100


def test_a_key_that_cannot_be_checked_is_a_finding(path: Path) -> None:
    other.sql(path, "CREATE TABLE c(a REFERENCES a(x)); INSERT INTO c VALUES (1)")
    assert "cannot be checked" in foreign_key_check(path)[0]


def test_a_damaged_page_is_found_and_a_damaged_index_only_by_the_full_check(path: Path) -> None:
    other.sql(
        path,
        "DELETE FROM f; PRAGMA writable_schema=on; UPDATE sqlite_schema SET sql='CREATE INDEX i ON a(id+x)' WHERE name='i'",
    )
    assert quick_check_file(path) == ()
    assert any("index i" in line for line in integrity_check(path))


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (b"", "0 bytes"),
        (random.Random(3).randbytes(8192), "file is not a database"),
    ],
)
def test_what_is_no_database_is_a_finding_not_an_ok(tmp_path: Path, data: bytes, finding: str) -> None:
    path = tmp_path / "private.db"
    path.write_bytes(data)
    for check in (quick_check_file, integrity_check):
        assert finding in check(path)[0]


def test_a_cut_off_file_is_a_finding_and_its_rows_are_not_counted(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(8192)
    assert "malformed" in quick_check_file(path)[0]
    with pytest.raises(ProofFailed, match="malformed"):
        row_counts_file(path)
    with pytest.raises(ProofFailed, match="malformed"):
        schema_digest(path)


def test_tables_of_an_extension_that_is_not_here_are_left_out(path: Path) -> None:
    row = "'table', 'z', 'z', 0, 'CREATE VIRTUAL TABLE z USING not_loaded(a)'"
    other.sql(path, f"PRAGMA writable_schema=on; INSERT INTO sqlite_schema VALUES ({row})")
    assert "z" not in dict(row_counts_file(path))
    assert dict(row_counts_file(path))["a"] == 3
