"""extract brings rows back while the service runs, verify-recovery proves them, forensics-copy keeps evidence."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import other
from tests.unit.cli.calls import everything, run
from tests.unit.cli.conftest import Call

pytestmark = pytest.mark.slow


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_deleted_rows_come_back_while_the_service_writes(call: Call, site: Path, full: str, mode: str) -> None:
    live = site / "memory.db"
    tables = ("code_memories", "concept_evolution")  # the service adds to them and deletes nothing
    gone = {table: rows(live, f"SELECT * FROM {table} WHERE id <= 15 ORDER BY id") for table in tables}
    run(live, f"PRAGMA journal_mode = {mode}; " + "".join(f"DELETE FROM {table} WHERE id <= 15;" for table in tables))
    log = site / "commits.jsonl"
    words = ["write", str(live), "--rate", "60", "--forever", "--commits-log", str(log)]
    with subprocess.Popen([sys.executable, "-m", "continuum_tasks.sample", *words], stdout=subprocess.PIPE) as service:
        try:
            while not log.exists() or not log.read_text():
                time.sleep(0.05)
            for table in tables:
                done = call("backup", "extract", full, "--table", table, "--into", "memory.db", "--format", "json")
                assert done.code == 0, done.err
                assert done.json["written"]["n_inserted"] == len(gone[table]) == 15
            while log.read_text().count("\n") <= 20:
                assert service.poll() is None
                time.sleep(0.05)
        finally:
            service.send_signal(signal.SIGTERM)
        out, _ = service.communicate()
    commits = [json.loads(line) for line in log.read_text().splitlines()]
    assert service.returncode == 0 and json.loads(out)["n_commits"] == len(commits) > 20
    assert max(commit["took_seconds"] for commit in commits) < 5
    for table in tables:
        assert rows(live, f"SELECT * FROM {table} WHERE id <= 15 ORDER BY id") == gone[table]
    assert rows(live, "PRAGMA integrity_check") == [("ok",)] and rows(live, "PRAGMA foreign_key_check") == []


def test_a_dry_run_previews_and_writes_nothing(call: Call, site: Path, full: str) -> None:
    run(site / "memory.db", "DELETE FROM auto_messages WHERE id < 4; UPDATE auto_messages SET content = 'mine' WHERE id = 5")
    before = everything(site)
    done = call("backup", "extract", full, "--table", "auto_messages", "--into", "memory.db", "--dry-run", "--format", "json")
    assert done.code == 0, done.err
    assert (done.json["n_new"], done.json["n_conflicts"], done.json["written"]) == (3, 1, None)
    assert [row["id"] for row in done.json["sample"]] == [1, 2, 3]
    assert done.json["refused"]["name"] == "TargetExists" and "it would be refused" in done.err
    assert {n: d for n, d in everything(site).items() if "metadata.db" not in n} == {
        n: d for n, d in before.items() if "metadata.db" not in n
    }
    assert call("backup", "extract", full, "--table", "auto_messages", "--into", "memory.db").code == 9


def test_rows_whose_parents_are_gone_are_refused_by_name(call: Call, site: Path, full: str) -> None:
    run(
        site / "memory.db",
        "DELETE FROM auto_messages; DELETE FROM decisions; DELETE FROM thinking_snapshots; DELETE FROM messages",
    )
    done = call("backup", "extract", full, "--table", "auto_messages", "--into", "memory.db")
    assert done.code == 9 and "to rows of messages that are not there" in done.err and "--table messages first" in done.err
    assert rows(site / "memory.db", "SELECT count(*) FROM auto_messages") == [(0,)]
    for table in ("messages", "auto_messages"):
        assert call("backup", "extract", full, "--table", table, "--into", "memory.db").code == 0


def test_rows_are_printed_as_a_table_as_json_lines_and_written_as_sql(call: Call, site: Path, full: str) -> None:
    shown = call("backup", "extract", "--pitr", "0s", "--table", "messages", "--where", "id <= 30")
    assert "30 rows of messages, the first 20 shown" in shown.out and max(map(len, shown.out.splitlines())) <= 100
    lines = call("backup", "extract", full, "--table", "tenants", "--format", "json").out.splitlines()
    assert [json.loads(line)["tenant_id"] for line in lines] == [
        r[0] for r in rows(site / "memory.db", "SELECT tenant_id FROM tenants")
    ]
    assert call("backup", "extract", full, "--table", "tenants", "--output", "t.sql").code == 0
    assert stat.S_IMODE((site / "t.sql").stat().st_mode) == 0o600
    run(site / "copy.db", "CREATE TABLE tenants (tenant_id, name, plan, settings, created_at);" + (site / "t.sql").read_text())
    assert rows(site / "copy.db", "SELECT * FROM tenants") == rows(site / "memory.db", "SELECT * FROM tenants")
    assert call("backup", "extract", full, "--table", "tenants", "--output", "t.sql").code == 9
    failed = call("backup", "extract", full, "--table", "tenants", "--where", "nonsense", "--output", "u.jsonl")
    assert failed.code == 2 and not (site / "u.jsonl").exists()


def test_a_reader_that_stops_early_ends_it_without_a_word(call: Call, site: Path, full: str) -> None:
    command = f"{sys.executable} -m continuum_tasks.cli backup extract {full} --table embeddings --format json"
    script = f"{command} | head -c 100 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    "where",
    [
        "1; DROP TABLE tenants",
        "1) ; ATTACH 'evil.db' AS e; --",
        "(SELECT load_extension('x'))",
        "EXISTS (SELECT 1 FROM pragma_journal_mode('wal'))",
        "$a(') OR 1 --')",
        "no_such_column",
        "",
        "\udcff",
    ],
)
def test_a_hostile_expression_writes_nowhere(call: Call, site: Path, full: str, where: str) -> None:
    before = everything(site)
    done = call(
        "backup", "extract", full, "--table", "tenants", f"--where={where}", "--into", "memory.db", "--on-conflict", "replace"
    )
    assert done.code == (2 if where else 0), done.err
    if where:
        state = ("metadata", "audit.log")  # the attempt is on record
        assert {n: d for n, d in everything(site).items() if not any(s in n for s in state)} == {
            n: d for n, d in before.items() if not any(s in n for s in state)
        }


@pytest.mark.parametrize(
    "words",
    [
        ["--table", "tenants"],
        ["--pitr", "0s"],
        ["--pitr", "0s", "--table", "nothing"],
        ["--pitr", "0s", "--table", "tenants", "--dry-run"],
        ["--pitr", "0s", "--table", "tenants", "--on-conflict", "skip"],
        ["--pitr", "0s", "--table", "tenants", "--into", "memory.db", "--output", "x.sql"],
        ["--pitr", "0s", "--table", "tenants", "--output", "x.csv"],
    ],
)
def test_words_that_make_no_sense_are_exit_2(call: Call, site: Path, full: str, words: list[str]) -> None:
    assert call("backup", "extract", *words).code == 2


@pytest.mark.parametrize(("into", "code"), [("nothing.db", 4), ("etc", 4), ("empty.db", 4), ("garbage.db", 4)])
def test_a_live_database_that_is_none_is_a_source_error(call: Call, site: Path, full: str, into: str, code: int) -> None:
    (site / "empty.db").touch()
    (site / "garbage.db").write_bytes(os.urandom(5000))
    assert call("backup", "extract", full, "--table", "tenants", "--into", into).code == code


def test_a_restore_nobody_wrote_to_is_proven_identical(call: Call, site: Path, full: str) -> None:
    assert call("backup", "verify-recovery").code == 8
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    done = call("backup", "verify-recovery", "--format", "json")
    assert (done.code, done.json["verdict"], done.json["backup_id"]) == (0, "identical", full)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_restore_the_service_wrote_to_is_checked_and_its_rows_compared(call: Call, site: Path, full: str, mode: str) -> None:
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    run(site / "memory.db", f"PRAGMA journal_mode = {mode}; INSERT INTO tenants VALUES ('mine', 'm', 'p', '{{}}', '2026')")
    done = call("backup", "verify-recovery", "--format", "json")
    assert (done.code, done.json["verdict"]) == (0, "written since"), done.err
    assert [d["table"] for d in done.json["differences"]] == ["tenants"]
    run(site / "memory.db", "DELETE FROM auto_messages")
    fewer = call("backup", "verify-recovery")
    assert fewer.code == 1 and "rows gone" in fewer.out and "auto_messages" in fewer.out


def test_a_restored_file_that_the_disk_or_a_stranger_changed_is_exit_7(call: Call, site: Path, full: str) -> None:
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    path = site / "memory.db"
    was = path.stat()
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff" * 100)
    stranger = call("backup", "verify-recovery")
    assert stranger.code == 7 and "something that is not SQLite" in stranger.err
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    disk = call("backup", "verify-recovery")
    assert disk.code == 7 and "it was not written since" in disk.err


def test_a_restored_file_that_is_gone_or_was_undone_says_so(call: Call, site: Path, full: str) -> None:
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    assert call("backup", "restore", "--undo", "--target", "memory.db").code == 0
    undone = call("backup", "verify-recovery")
    assert undone.code == 8 and "was undone" in undone.err
    assert call("backup", "restore", full, "--target", "r.db").code == 0
    (site / "r.db").unlink()
    assert call("backup", "verify-recovery").code == 4


def test_an_extract_is_proven_by_looking_again(call: Call, site: Path, full: str) -> None:
    run(site / "memory.db", "DELETE FROM auto_messages")
    assert call("backup", "extract", full, "--table", "auto_messages", "--where", "id < 9", "--into", "memory.db").code == 0
    done = call("backup", "verify-recovery", "--format", "json")
    assert (done.code, done.json["kind"], done.json["verdict"]) == (0, "extract", "identical")
    run(site / "memory.db", "DELETE FROM auto_messages WHERE id = 3")
    assert call("backup", "verify-recovery").code == 1


def test_restores_undos_and_extracts_are_audited(call: Call, site: Path, full: str) -> None:
    from continuum_tasks.host import audit

    call("backup", "restore", full, "--target", "memory.db", "--overwrite")
    call("backup", "restore", "--undo", "--target", "memory.db")
    run(site / "memory.db", "DELETE FROM auto_messages")
    call("backup", "extract", full, "--table", "auto_messages", "--into", "memory.db")
    call("backup", "forensics-copy")
    lines = list(audit.read_events(site / "etc/state" / audit.FILE))
    actions = [line.event.action for line in lines if line.event is not None and line.event.outcome == "done"]
    assert [action for action in actions if action in ("restore", "undo", "extract", "forensics-copy")] == [
        "restore",
        "undo",
        "extract",
        "forensics-copy",
    ]
    assert all(line.intact for line in lines)


def test_a_forensics_copy_has_every_file_as_it_was_and_changes_none(call: Call, site: Path) -> None:
    other.run(
        site / "memory.db",
        "c = connect(); c.execute('PRAGMA journal_mode=WAL'); c.execute('CREATE TABLE t(x)'); die()",
    )
    names = ("memory.db", "memory.db-wal", "memory.db-shm")
    before = {name: (site / name).read_bytes() for name in names}
    done = call("backup", "forensics-copy", "--to", "evidence", "--format", "json")
    assert done.code == 0, done.err
    place = Path(done.json["directory"])
    assert place.parent == site / "evidence" and stat.S_IMODE(place.stat().st_mode) == 0o700
    assert (
        {name: (place / name).read_bytes() for name in names} == before == {name: (site / name).read_bytes() for name in names}
    )
    for line in (place / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(before[name]).hexdigest() == digest
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in place.iterdir())
    assert f"Copy of {site / 'memory.db'}" in (place / "NOTE.txt").read_text()


def test_what_is_no_database_is_copied_too_and_a_second_copy_gets_its_own_place(call: Call, site: Path) -> None:
    (site / "noise").write_bytes(os.urandom(9000))
    for number in (1, 2):
        assert call("backup", "forensics-copy", "--database", "./noise", "--to", "evidence").code == 0
        assert len(list((site / "evidence").iterdir())) == number
    copies = {(path / "noise").read_bytes() for path in (site / "evidence").iterdir()}
    assert copies == {(site / "noise").read_bytes()}


@pytest.mark.parametrize(
    ("words", "code"), [(["--database", "nobody"], 2), (["--database", "./nothing.db"], 4), (["--database", "etc"], 4)]
)
def test_a_forensics_copy_of_nothing_says_so(call: Call, site: Path, words: list[str], code: int) -> None:
    assert call("backup", "forensics-copy", *words).code == code


def test_a_service_that_holds_the_database_keeps_its_locks_during_a_forensics_copy(call: Call, site: Path) -> None:
    with other.living(site / "memory.db", "c = connect(); c.execute('BEGIN IMMEDIATE')") as process:
        done = call("backup", "forensics-copy", "--format", "json")
        assert done.code == 0 and any(str(process.pid) in holder for holder in done.json["in_use_by"])
        assert other.write(site / "memory.db") == "database is locked"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--where", "id < (3"], 2),
        (["--where", "id < 3; DROP TABLE tenants"], 2),
        (["--into", "not-there.db"], 4),
        (["--into", "etc/backup.conf"], 4),
    ],
)
def test_what_is_typed_wrong_is_said_before_anything_is_fetched(
    call: Call, site: Path, full: str, words: list[str], code: int
) -> None:
    done = call("backup", "extract", full, "--table", "tenants", *words)

    assert done.code == code and "fetch" not in done.err
