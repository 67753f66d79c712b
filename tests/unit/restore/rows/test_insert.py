"""Rows are brought into a live database: what is there stays, foreign keys hold, and all or nothing is written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from continuum_tasks.errors import TargetBusy, TargetError, TargetExists
from continuum_tasks.restore.rows import insert
from continuum_tasks.restore.rows.insert import InsertedRows
from continuum_tasks.restore.rows.match import Match, OnConflict
from continuum_tasks.restore.rows.select import SelectedRows, select_rows
from tests.support import other

BASE = """
CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE notes (id INTEGER PRIMARY KEY, parent INT REFERENCES parents(id) ON DELETE CASCADE, text TEXT,
                    next INT REFERENCES notes);
CREATE TABLE keyed (a TEXT COLLATE NOCASE, b INT, c, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE loose (a INTEGER, b TEXT);
CREATE INDEX notes_by_parent ON notes(parent);
CREATE TABLE log (what);
CREATE TRIGGER noted AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.id); END;
"""
ROWS = """
INSERT INTO parents VALUES (1, 'p'), (2, 'q');
INSERT INTO notes VALUES (1, 1, 'one', NULL), (2, 1, 'two', 3), (3, 2, 'three', 2);
INSERT INTO keyed VALUES ('x', 1, 'c'), ('y', 2, NULL);
INSERT INTO loose VALUES (1, 'a'), (1, 'a'), (NULL, 'b');
DELETE FROM log;
"""


class Case:
    def __init__(self, folder: Path) -> None:
        self.copy, self.live = folder / "copy.db", folder / "live.db"
        for path in (self.copy, self.live):
            self.run(path, BASE + ROWS)

    @staticmethod
    def run(path: Path, script: str) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)

    def change(self, script: str) -> None:
        self.run(self.live, script)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.live)) as connection:
            return connection.execute(sql).fetchall()

    def pick(self, table: str, where: str = "") -> SelectedRows:
        picked = self.copy.with_name("picked.db")
        picked.unlink(missing_ok=True)
        return select_rows(self.copy, picked, table, where=where)

    def look(self, table: str, on_conflict: OnConflict = OnConflict.FAIL) -> Match:
        return insert.inspect_insert(self.pick(table), self.live, on_conflict=on_conflict)

    def bring(self, table: str, on_conflict: OnConflict = OnConflict.FAIL, where: str = "") -> InsertedRows:
        return insert.insert_rows(self.pick(table, where), self.live, on_conflict=on_conflict, monotonic=monotonic)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_missing_rows_come_back_and_those_that_are_there_are_left_alone(case: Case) -> None:
    case.change("DELETE FROM notes WHERE id = 1")
    done = case.bring("notes")
    assert (done.n_inserted, done.n_replaced, done.n_skipped) == (1, 0, 2)
    assert case.rows("SELECT id, text FROM notes") == [(1, "one"), (2, "two"), (3, "three")]
    assert case.bring("notes").n_inserted == 0


def test_rows_that_refer_to_each_other_come_back_together(case: Case) -> None:
    case.change("DELETE FROM notes WHERE id > 1")
    assert case.look("notes").orphans == ()
    assert case.bring("notes").n_inserted == 2


def test_triggers_of_the_live_table_fire_as_for_the_service(case: Case) -> None:
    case.change("DELETE FROM notes WHERE id = 1")
    case.bring("notes")
    assert case.rows("SELECT what FROM log") == [(1,)]


def test_a_missing_parent_is_named_and_nothing_is_written(case: Case) -> None:
    case.change("DELETE FROM notes; DELETE FROM parents WHERE id = 2")
    with pytest.raises(TargetError) as caught:
        case.bring("notes", OnConflict.SKIP)
    assert "1 rows refer by parent to rows of parents that are not there (such as 2)" in caught.value.message
    assert "extract --table parents first" in caught.value.hint
    assert case.rows("SELECT count(*) FROM notes") == [(0,)]
    case.bring("parents")
    assert case.bring("notes").n_inserted == 3


def test_a_missing_parent_table_is_named_too(case: Case) -> None:
    case.change("DELETE FROM notes; DROP TABLE parents")
    assert case.look("notes").orphans[0].n_rows == 3


@pytest.mark.parametrize(
    ("on_conflict", "text", "counts"), [(OnConflict.SKIP, "mine", (0, 0, 3)), (OnConflict.REPLACE, "one", (0, 1, 2))]
)
def test_a_row_with_other_content_is_kept_or_replaced_as_asked(
    case: Case, on_conflict: OnConflict, text: str, counts: tuple[int, int, int]
) -> None:
    case.change("UPDATE notes SET text = 'mine' WHERE id = 1")
    done = case.bring("notes", on_conflict)
    assert (done.n_inserted, done.n_replaced, done.n_skipped) == counts
    assert case.rows("SELECT text FROM notes WHERE id = 1") == [(text,)]


def test_with_fail_a_row_with_other_content_stops_it_all(case: Case) -> None:
    case.change("UPDATE notes SET text = 'mine' WHERE id = 1; DELETE FROM notes WHERE id = 3")
    with pytest.raises(TargetExists, match="1 rows are there already with other content"):
        case.bring("notes")
    assert case.rows("SELECT id FROM notes") == [(1,), (2,)]


def test_replacing_a_parent_keeps_its_children(case: Case) -> None:
    """INSERT OR REPLACE would have deleted them by ON DELETE CASCADE."""
    case.change("UPDATE parents SET name = 'renamed' WHERE id = 1")
    assert case.bring("parents", OnConflict.REPLACE).n_replaced == 1
    assert case.rows("SELECT count(*) FROM notes") == [(3,)]


def test_a_place_in_a_unique_index_that_another_row_took_is_no_reason_to_write_half(case: Case) -> None:
    case.change("DELETE FROM notes; DELETE FROM parents; INSERT INTO parents VALUES (7, 'p')")
    assert case.look("parents").n_clashes == 1
    for on_conflict in (OnConflict.FAIL, OnConflict.REPLACE):
        with pytest.raises(TargetExists, match="1 rows would break a UNIQUE index"):
            case.bring("parents", on_conflict)
    done = case.bring("parents", OnConflict.SKIP)
    assert (done.n_inserted, done.n_skipped) == (1, 1)
    assert case.rows("SELECT * FROM parents ORDER BY id") == [(2, "q"), (7, "p")]


def test_keys_of_several_columns_match_as_the_live_table_compares_them(case: Case) -> None:
    case.change("UPDATE keyed SET a = 'X' WHERE a = 'x'; DELETE FROM keyed WHERE a = 'y'")
    found = case.look("keyed")
    assert (found.n_new, found.n_same, found.n_conflicts) == (1, 1, 0)
    assert case.bring("keyed").n_inserted == 1


def test_rows_of_a_table_without_a_key_match_as_a_whole_null_included(case: Case) -> None:
    assert case.look("loose").n_new == 0
    case.change("DELETE FROM loose WHERE a IS NULL")
    assert case.bring("loose").n_inserted == 1
    assert case.rows("SELECT count(*) FROM loose WHERE a IS NULL") == [(1,)]


def test_a_dropped_table_comes_back_with_its_indexes_and_triggers(case: Case) -> None:
    case.change("DROP TABLE notes")
    assert case.look("notes").creates
    assert case.bring("notes").n_inserted == 3
    names = case.rows("SELECT name FROM sqlite_schema WHERE tbl_name = 'notes' ORDER BY name")
    assert names == [("noted",), ("notes",), ("notes_by_parent",)]
    assert case.rows("SELECT count(*) FROM log") == [(0,)]


def test_schema_differences_are_named_and_rows_get_the_new_column_s_default(case: Case) -> None:
    case.change("ALTER TABLE loose ADD COLUMN c TEXT DEFAULT 'new'; ALTER TABLE loose DROP COLUMN b; DELETE FROM loose")
    assert case.look("loose").differences == (
        "column b is only in the backup: its values are not inserted",
        "column c is new since the backup: rows get its default",
    )
    case.bring("loose")
    assert case.rows("SELECT DISTINCT c FROM loose") == [("new",)]


def test_a_new_column_that_needs_a_value_is_named(case: Case) -> None:
    case.change("DROP TABLE loose; CREATE TABLE loose (a INTEGER, b TEXT, c TEXT NOT NULL)")
    with pytest.raises(TargetError, match="column c: new since the backup, NOT NULL"):
        case.bring("loose")


def test_a_constraint_the_backup_did_not_have_refuses_all_rows(case: Case) -> None:
    case.change("DROP TABLE loose; CREATE TABLE loose (a INTEGER CHECK (a IS NOT NULL), b TEXT)")
    for on_conflict in OnConflict:
        with pytest.raises(TargetError, match="a row is refused"):
            case.bring("loose", on_conflict)
    assert case.rows("SELECT count(*) FROM loose") == [(0,)]


def test_a_view_in_the_table_s_place_is_refused(case: Case) -> None:
    case.change("DROP TABLE loose; CREATE VIEW loose AS SELECT 1 AS a, 'x' AS b")
    with pytest.raises(TargetError, match="loose is a view there"):
        case.bring("loose")


def test_a_database_in_another_encoding_is_refused_in_words(case: Case) -> None:
    case.live.unlink()
    case.change(f"PRAGMA encoding = 'UTF-16le'; {BASE}")
    with pytest.raises(TargetError, match="encoding"):
        case.bring("loose")


def test_a_database_that_stays_locked_is_busy_and_names_who_holds_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insert, "BUSY_SECONDS", 0.1)
    case.change("DELETE FROM loose")
    with other.living(case.live, "c = connect(); c.execute('BEGIN IMMEDIATE')") as process, pytest.raises(TargetBusy) as caught:
        case.bring("loose")
    assert f"pid {process.pid}" in caught.value.message
    assert case.bring("loose").n_inserted == 3


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_looking_leaves_every_byte_and_no_file_behind(case: Case, mode: str) -> None:
    case.change(f"PRAGMA journal_mode = {mode}; DELETE FROM notes")
    picked = case.pick("notes")
    before = {path.name: path.read_bytes() for path in case.live.parent.iterdir()}
    assert insert.inspect_insert(picked, case.live, on_conflict=OnConflict.FAIL).n_new == 3
    assert {path.name: path.read_bytes() for path in case.live.parent.iterdir()} == before


def test_keys_are_looked_up_by_index_not_by_reading_the_table(case: Case) -> None:
    """A service waits while a rollback-journal database is read: each row picked must cost one lookup."""
    picked = case.pick("notes")
    with insert._opened(case.live, picked) as connection:
        from continuum_tasks.restore.rows.match import terms

        pieces = terms(connection, picked, insert._shape(connection, picked, case.live))
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN SELECT 1 FROM picked.continuum_picked AS p WHERE {pieces.is_new}"
        ).fetchall()
    assert any("SEARCH l USING INTEGER PRIMARY KEY" in str(row) for row in plan), plan
