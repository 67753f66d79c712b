"""Rows are picked by somebody's expression, which can read the copy and do nothing else."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from continuum_tasks.errors import ContinuumError, UsageError
from continuum_tasks.restore.rows import render
from continuum_tasks.restore.rows.select import SelectedRows, select_rows

SCHEMA = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT NOT NULL, data BLOB, score REAL, any_thing, t INT AS (id * 2));
CREATE TABLE "odd "" table" ("a b" TEXT, "select" INT);
CREATE VIEW seen AS SELECT * FROM notes;
INSERT INTO notes VALUES (1, 'one', x'00ff', 1.5, 'text'), (2, 'two', NULL, 9e999, 2),
    (3, 'nul' || char(0) || 'x', NULL, 0, 3.0);
INSERT INTO "odd "" table" VALUES ('x', 1), ('x', 1);
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "restored.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO notes(id, name) VALUES (4, CAST(x'ff41' AS TEXT))")
        connection.commit()
    return path


def take(copy: Path, where: str = "", *, table: str = "notes") -> SelectedRows:
    picked = copy.with_name("picked.db")
    picked.unlink(missing_ok=True)
    return select_rows(copy, picked, table, where=where)


def test_rows_and_columns_come_as_they_are_without_generated_columns(copy: Path) -> None:
    picked = take(copy, "id < 3 AND name IN (SELECT name FROM notes)")
    assert picked.columns == ("id", "name", "data", "score", "any_thing")
    assert render.values(picked, limit=9) == [
        {"id": 1, "name": "one", "data": {"base64": "AP8=", "type": "blob"}, "score": 1.5, "any_thing": "text"},
        {"id": 2, "name": "two", "data": None, "score": {"real": "inf"}, "any_thing": 2},
    ]


def test_a_table_is_found_in_any_case_and_with_any_name(copy: Path) -> None:
    assert take(copy, table="NOTES").n_rows == 4
    assert take(copy, "\"a b\" = 'x'", table='odd " table').n_rows == 2


@pytest.mark.parametrize("table", ["nothing", "seen", "sqlite_schema", "", "notes; DROP TABLE notes"])
def test_what_is_no_plain_table_is_refused_and_the_tables_are_named(copy: Path, table: str) -> None:
    with pytest.raises(UsageError) as caught:
        take(copy, table=table)
    assert "notes" in caught.value.hint


def test_what_it_is_instead_is_said(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("CREATE VIRTUAL TABLE found USING fts5 (body)")

    for table, said in (("seen", "is a view in"), ("found", "is a virtual table in"), ("found_data", "is a shadow table in")):
        with pytest.raises(UsageError, match=said):
            take(copy, table=table)


HOSTILE = (
    "load_extension('/tmp/x.so')",
    "1 IN (SELECT load_extension('x'))",
    "fts3_tokenizer('simple', x'00')",
    "id IN (SELECT 1 FROM pragma_journal_mode('wal'))",
    "id IN (SELECT 1 FROM pragma_table_info('notes'))",
    "id IN (WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r)",
    "1); DROP TABLE backup.notes; --",
    "1) UNION ALL SELECT 1, 2, 3, 4, 5 --",
    "1; ATTACH '/tmp/evil.db' AS evil; CREATE TABLE evil.t(x)",
    "(ATTACH 'evil.db' AS evil)",
    "(DELETE FROM notes)",
    "(INSERT INTO notes VALUES (9, 'x', 0, 0, 0))",
    "(UPDATE notes SET name = 'x' RETURNING id)",
    "EXISTS (SELECT writefile('evil', 'x'))",
    "EXISTS (SELECT 1 FROM notes INTO OUTFILE 'evil')",
    "x",
    "id = ",
    "\ud800",
)


@pytest.mark.parametrize("where", HOSTILE)
def test_a_hostile_expression_is_refused_and_changes_nothing(copy: Path, where: str) -> None:
    before = copy.read_bytes()
    with pytest.raises(ContinuumError):
        take(copy, where)
    assert copy.read_bytes() == before
    assert {path.name for path in copy.parent.iterdir()} <= {"restored.db", "picked.db"}


def test_a_damaged_copy_is_no_defect(copy: Path) -> None:
    data = bytearray(copy.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    copy.write_bytes(data)
    with pytest.raises(ContinuumError):
        take(copy)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_sql_that_is_written_out_makes_the_same_rows_in_another_database(copy: Path, tmp_path: Path, encoding: str) -> None:
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, name, data)")
        values = [(1, "it's; é", b"\0\xff"), (2, "nul\0x", 1.1), (3, None, float("inf")), (4, "line\nbreak", 2**62)]
        connection.executemany("INSERT INTO notes VALUES (?, ?, ?)", values)
        connection.commit()
    picked = take(source)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, name, data)")
        connection.executescript(b"".join(render.written(picked, render.Form.SQL)).decode())
        assert connection.execute("SELECT * FROM notes").fetchall() == values


def test_text_that_is_not_valid_comes_out_whole_in_lines_and_in_sql(copy: Path) -> None:
    picked = take(copy, "id = 4")
    line = json.loads(b"".join(render.written(picked, render.Form.LINES)))
    assert line["name"] == {"base64": "/0E=", "type": "text"}
    assert b"'\xffA'" in b"".join(render.written(picked, render.Form.SQL))
