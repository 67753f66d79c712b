"""Switching a database to WAL mode on request."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
from pathlib import Path

import pytest

from tests.support.service import serving
from tests.unit.cli.conftest import Call


def mode(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_enable_wal_switches_once_says_how_to_go_back_and_is_audited(call: Call, site: Path) -> None:
    done = call("backup", "enable-wal", "memory", "--yes")
    assert done.code == 0 and "in WAL mode now" in done.out and "PRAGMA journal_mode = delete" in done.err
    assert mode(site / "memory.db") == "wal"
    again = call("backup", "enable-wal", "memory", "--format", "json")
    assert again.code == 0 and again.json["changed"] is False
    events = call("backup", "audit", "--format", "json").json["events"]
    assert [(e["subject"], e["outcome"]) for e in events if e["action"] == "enable-wal"] == [("memory", "done")]


def test_enable_wal_asks_and_nobody_answering_changes_nothing(call: Call, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        done = call("backup", "enable-wal", "memory")
    assert done.code == 2 and "--yes" in done.err and "every process that reads it must run on this host" in done.err
    assert mode(site / "memory.db") == "delete"


@pytest.mark.parametrize("sql", ["BEGIN; SELECT count(*) FROM sqlite_master", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_enable_wal_is_refused_while_another_connection_is_in_a_transaction(call: Call, site: Path, sql: str) -> None:
    with serving(site / "memory.db") as service:
        service.run(*sql.split("; "))
        done = call("backup", "enable-wal", "memory", "--yes", "--format", "json")
    assert done.code == 4 and done.json["error"]["name"] == "SourceBusy", done.err
    assert mode(site / "memory.db") == "delete"
    events = call("backup", "audit", "--format", "json").json["events"]
    assert [e["outcome"] for e in events if e["action"] == "enable-wal"] == ["SourceBusy"]


def test_enable_wal_leaves_an_idle_connection_of_another_process_working(call: Call, site: Path) -> None:
    with serving(site / "memory.db") as service:
        service.run("CREATE TABLE idle(n)", "SELECT count(*) FROM idle")
        assert call("backup", "enable-wal", "memory", "--yes").code == 0
        assert service.run("INSERT INTO idle VALUES (7)", "SELECT n FROM idle", "PRAGMA journal_mode") == [[], [[7]], [["wal"]]]
        with contextlib.closing(sqlite3.connect(site / "memory.db")) as other:
            assert other.execute("SELECT n FROM idle").fetchall() == [(7,)]


def test_enable_wal_is_refused_for_what_is_no_database(call: Call, site: Path) -> None:
    (site / "memory.db").write_bytes(b"some text" * 100)
    assert call("backup", "enable-wal", "memory", "--yes").code == 4
    assert call("backup", "audit", "--format", "json").json["events"][-1]["action"] != "enable-wal"


def test_enable_wal_is_refused_for_a_database_that_is_not_declared(call: Call, site: Path) -> None:
    assert call("backup", "enable-wal", "other", "--yes").code == 2


def test_enable_wal_that_asks_with_standard_input_closed_changes_nothing(
    call: Call, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert call("backup", "enable-wal", "memory").code == 2 and mode(site / "memory.db") == "delete"


@pytest.mark.parametrize(("answer", "code", "then"), [("y\n", 0, "wal"), ("n\n", 130, "delete"), ("\n", 130, "delete")])
def test_enable_wal_does_what_the_answer_says(
    call: Call, site: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, then: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert call("backup", "enable-wal", "memory").code == code
    assert mode(site / "memory.db") == then
