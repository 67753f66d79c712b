"""Questions in SQL: what counts as yes, and that a question cannot change or reach anything."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum_tasks.verify.operator_check import objection


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "restored.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
    connection.execute("INSERT INTO t VALUES (1, 1)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["restored.db"]


def ask(path: Path, sql: str) -> str:
    return objection(path, sql, limit_seconds=0.3, monotonic=time.monotonic)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) > 0 FROM t",
        "SELECT TRUE",
        "SELECT id FROM t WHERE id > 5",
        "WITH a AS (SELECT 1) SELECT max(x) = 1 FROM t",
        "SELECT x = 1 FROM t",
    ],
)
def test_no_row_or_one_that_says_1_is_a_yes(database: Path, sql: str) -> None:
    assert ask(database, sql) == ""


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT count(*) = 0 FROM t", "answers (0,)"),
        ("SELECT NULL", "answers (None,)"),
        ("SELECT 2", "answers (2,)"),
        ("SELECT 'yes'", "answers ('yes',)"),
        ("SELECT id, x FROM t", "answers (1, 1)"),
        ("SELECT 1 UNION ALL SELECT 1", "answers with rows, the first (1,)"),
        ("SELECT id FROM t", "answers with a row of a table, (1,): write an expression such as `id = 1`"),
        ("SELECT x FROM t", "answers with a row of a table"),
        ("SELECT nope FROM t", "no such column: nope"),
        ("SELECT 1 FROM", "incomplete input"),
    ],
)
def test_anything_else_is_a_no_that_says_what_came_instead(database: Path, sql: str, reason: str) -> None:
    assert reason in ask(database, sql)


def test_a_question_without_end_is_cut_off(database: Path) -> None:
    endless = "WITH RECURSIVE a(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM a) SELECT count(*) FROM a"

    assert ask(database, endless) == "no answer in 0.3 s"


@pytest.mark.parametrize("sql", ["DELETE FROM t", "ATTACH 'other.db' AS o", "SELECT 1; DROP TABLE t", "VACUUM INTO 'copy.db'"])
def test_a_question_changes_nothing(database: Path, sql: str) -> None:
    assert ask(database, sql) != ""
