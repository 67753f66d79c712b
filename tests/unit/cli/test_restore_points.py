"""restore --pitr, --dry-run, --undo, --region."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks import failpoints
from continuum_tasks.sample.change import change
from tests.support import other
from tests.support.cli import PROGRAM
from tests.unit.cli.calls import everything, run
from tests.unit.cli.conftest import Call

pytestmark = pytest.mark.slow


def made(call: Call, strategy: str = "full") -> dict[str, str]:
    fields: dict[str, str] = call("backup", "create", "--strategy", strategy, "--format", "json").json
    return fields


def later(at: str, **delta: float) -> str:
    return (datetime.fromisoformat(at) + timedelta(**delta)).isoformat()


def content(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump())


def test_pitr_takes_the_last_backup_at_or_before_the_time_and_says_which(call: Call, site: Path) -> None:
    first = made(call)
    before = content(site / "memory.db")
    change(site / "memory.db", fraction=0.01, seed=7)
    second = made(call, "incremental")
    done = call("backup", "restore", "--pitr", later(second["created_at"], microseconds=-1), "--target", "r.db")
    assert done.code == 0, done.err
    assert f"--pitr: {first['backup_id']}, the last usable backup at or before" in done.err and " before; changes" in done.err
    assert content(site / "r.db") == before
    exactly = call("backup", "restore", "--pitr", second["created_at"], "--target", "s.db", "--format", "json")
    assert exactly.json["backup_id"] == second["backup_id"]


def test_pitr_in_the_future_uses_the_last_and_says_so(call: Call, site: Path, full: str) -> None:
    done = call("backup", "restore", "--pitr", "2999-01-01", "--target", "r.db")
    assert done.code == 0 and "is in the future: this is the last backup there is" in done.err


def test_pitr_before_the_first_fails_naming_the_range(call: Call, site: Path) -> None:
    first = made(call)
    done = call("backup", "restore", "--pitr", "30d", "--target", "r.db")
    assert done.code == 8
    assert f"from {first['created_at']} to {first['created_at']}" in done.err
    assert not (site / "r.db").exists()


def test_pitr_of_a_storage_another_host_filled_needs_no_catalog(call: Call, site: Path, full: str) -> None:
    for path in (site / "etc/state").glob("metadata.db*"):
        path.unlink()
    assert call("backup", "restore", "--pitr", "0s", "--storage", "local", "--target", "r.db").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--pitr", "24h", "--latest"],
        ["backup-full-20251206-010000", "--pitr", "24h"],
        ["backup-full-20251206-010000", "--database", "memory"],
        [],
        ["--pitr", "yesterday"],
        ["--latest", "--exact"],
        ["--undo", "--latest"],
        ["--undo", "--verify"],
        ["--latest", "--region", "us-west-2"],
        ["--latest", "--region", "us-west-2", "--storage", "local"],
        ["--latest", "--region", "US WEST"],
        ["--latest", "--region", "us-west-2", "--storage", "nowhere"],
    ],
)
def test_words_that_make_no_sense_together_are_exit_2(call: Call, site: Path, full: str, words: list[str]) -> None:
    done = call("backup", "restore", *words, "--target", "r.db")
    assert done.code == 2, done.err
    assert not (site / "r.db").exists()


def test_region_reaches_the_storage(call: Call, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from continuum_tasks.config import load_config
    from continuum_tasks.runtime import open_runtime

    with (site / "etc/storage.conf").open("a") as file:
        file.write("\n[storage:s3]\ntype = s3\nbucket = backups\nregion = us-east-1\n")
    with open_runtime(load_config(site / "etc")) as runtime:
        there = runtime.in_region("us-west-2", storage="s3")
        assert there.config.storage("s3").region == "us-west-2" and there.in_region("", storage="s3") is there
        assert runtime.in_region("eu-west-1").config.storage("s3").region == "eu-west-1"
        assert runtime.config.storage("s3").region == "us-east-1"
        assert there.works()["fetch_chunk"].run.__self__ is there  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("exact", [[], ["--exact"]])
def test_a_dry_run_changes_nothing_and_counts_what_would_be_lost(call: Call, site: Path, mode: str, exact: list[str]) -> None:
    backup = made(call)
    run(
        site / "memory.db",
        f"PRAGMA journal_mode = {mode}; DELETE FROM auto_messages WHERE id IN (1, 2);"
        "INSERT INTO auto_messages SELECT 1000, tenant_id, message_id, 'new', '', 0, 0 FROM auto_messages LIMIT 1;"
        "INSERT INTO attention_links SELECT 1000 + id, source_id, target_id, relation, 0, 0, 0 FROM attention_links LIMIT 3;"
        "UPDATE intentions SET goal = 'changed' WHERE id < 3; CREATE TABLE fresh (x); INSERT INTO fresh VALUES (1), (1);",
    )
    before = everything(site)
    done = call(
        "backup", "restore", "--latest", "--target", "memory.db", "--overwrite", "--dry-run", *exact, "--format", "json"
    )
    assert done.code == 0, done.err
    after = everything(site)
    assert {n: d for n, d in after.items() if "metadata.db" not in n} == {
        n: d for n, d in before.items() if "metadata.db" not in n
    }
    plan = done.json
    assert plan["backup_id"] == backup["backup_id"] and plan["replaces"] and not plan["refused"]
    assert plan["fetch_bytes"] == sum(layer["stored_bytes"] for layer in plan["layers"]) > 0
    assert plan["space_bytes"] > int(backup["original_size_bytes"]) and plan["free_bytes"] > 0
    assert plan["estimate"]["n_measured"] == 0
    losses = {
        loss["table"]: (loss["lost"], loss["changed"]) for loss in plan["losses"]["tables"] if loss["lost"] or loss["changed"]
    }
    if exact:
        assert losses == {"auto_messages": (1, 0), "attention_links": (3, 0), "intentions": (0, 2), "fresh": (2, 0)}
    else:
        assert losses == {"attention_links": (3, None), "fresh": (2, None)}


def test_a_dry_run_of_a_new_target_says_nothing_is_lost_and_uses_measured_rates(call: Call, site: Path, full: str) -> None:
    assert call("backup", "restore", full, "--target", "a.db").code == 0
    done = call("backup", "restore", full, "--target", "b.db", "--dry-run")
    assert "nothing would be lost" in done.out and "measured in 1 restores" in done.out
    assert not (site / "b.db").exists()


def test_a_dry_run_says_what_would_stop_the_restore(call: Call, site: Path, full: str) -> None:
    with other.living(site / "memory.db", "c = connect(); c.execute('SELECT 1 FROM tenants').fetchall()") as process:
        done = call("backup", "restore", full, "--target", "memory.db", "--dry-run")
    assert done.code == 0
    assert "exists (give --overwrite" in done.err and f"in use by pid {process.pid}" in done.err
    assert call("backup", "restore", full, "--target", "no/such/r.db", "--dry-run").code == 0


def test_a_dry_run_over_what_is_no_database_says_that_losses_are_not_known(call: Call, site: Path, full: str) -> None:
    (site / "memory.db").write_bytes(b"x" * 5000)
    for exact in ([], ["--exact"]):
        done = call("backup", "restore", full, "--target", "memory.db", "--overwrite", "--dry-run", *exact)
        assert done.code == 0 and "is not known: " in done.out


def test_undo_puts_the_replaced_database_back_and_a_second_undo_the_restored_one(call: Call, site: Path, full: str) -> None:
    run(site / "memory.db", "INSERT INTO tenants VALUES ('mine', 'm', 'p', '{}', '2026')")
    before, mode = content(site / "memory.db"), (site / "memory.db").stat().st_mode
    restored = call("backup", "restore", full, "--target", "memory.db", "--overwrite", "--format", "json").json
    replacement = content(site / "memory.db")
    assert replacement != before
    listed = call("backup", "restore", "--undo", "--target", "memory.db", "--dry-run", "--format", "json").json
    assert [q["path"] for q in listed["quarantines"]] == [restored["quarantine"]]
    done = call("backup", "restore", "--undo", "--target", "memory.db", "--format", "json")
    assert done.code == 0, done.err
    assert done.json["put_back"] == restored["quarantine"]
    assert content(site / "memory.db") == before and (site / "memory.db").stat().st_mode == mode
    assert call("backup", "restore", "--undo", "--target", "memory.db").code == 0
    assert content(site / "memory.db") == replacement
    assert not list(site.glob(".memory.db.continuum-*"))


def test_a_target_that_another_run_works_on_is_named_as_the_operator_knows_it(call: Call, site: Path, full: str) -> None:
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    assert call("backup", "restore", "--undo", "--target", "memory.db").code == 0
    (lock,) = (site / "etc/state").rglob("target-*.lock")
    with lock.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = call("backup", "restore", "--undo", "--target", "memory.db")

    assert done.code == 10
    assert f"{site}/memory.db: another run is in progress (process " in done.err and "target-" not in done.err
    assert "hint: wait for it to end" in done.err


def test_undo_brings_back_commits_that_were_in_the_wal_alone(call: Call, site: Path, full: str) -> None:
    other.run(
        site / "memory.db",
        "c = connect(); c.execute('PRAGMA journal_mode=WAL'); c.execute('PRAGMA wal_autocheckpoint=0')\n"
        "c.execute(\"INSERT INTO tenants VALUES ('mine', 'm', 'p', '{}', '2026')\"); die()",
    )
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    assert call("backup", "restore", "--undo", "--target", "memory.db").code == 0
    assert other.sql(site / "memory.db", "SELECT count(*) FROM tenants WHERE tenant_id = 'mine'") == "(1,)"


def test_undo_puts_back_what_is_no_database_too_and_warns(call: Call, site: Path, full: str) -> None:
    (site / "memory.db").write_bytes(b"garbage" * 1000)
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    done = call("backup", "restore", "--undo", "--target", "memory.db")
    assert done.code == 0 and "SQLite finds in the file put back" in done.err
    assert (site / "memory.db").read_bytes() == b"garbage" * 1000


@pytest.mark.parametrize("point", [name for name in failpoints.RESTORE if name.startswith("install.")])
def test_a_killed_undo_leaves_one_of_the_two_and_the_next_one_never_takes_a_finished_one_back(
    call: Call, site: Path, full: str, point: str
) -> None:
    run(site / "memory.db", "INSERT INTO tenants VALUES ('mine', 'm', 'p', '{}', '2026')")
    wanted = content(site / "memory.db")
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    restored = content(site / "memory.db")
    command = [*PROGRAM, "backup", "restore", "--undo", "--target", "memory.db"]
    killed = subprocess.run(
        command, env={**os.environ, "CONTINUUM_FAILPOINTS": f"{point}=kill"}, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    finished = content(site / "memory.db") == wanted
    assert finished or content(site / "memory.db") == restored
    again = call("backup", "restore", "--undo", "--target", "memory.db")
    assert again.code == (9 if finished else 0), again.err
    assert content(site / "memory.db") == wanted
    assert not list(site.glob(".memory.db.continuum-*"))


def test_undo_without_a_replaced_file_or_with_a_service_at_work_changes_nothing(call: Call, site: Path, full: str) -> None:
    nothing = call("backup", "restore", "--undo", "--target", "memory.db")
    assert nothing.code == 9 and "no replaced file is kept" in nothing.err
    assert call("backup", "restore", full, "--target", "memory.db", "--overwrite").code == 0
    before = everything(site)
    with other.living(site / "memory.db", "c = connect(); c.execute('SELECT 1 FROM tenants').fetchall()") as process:
        busy = call("backup", "restore", "--undo", "--target", "memory.db")
    assert busy.code == 9 and f"pid {process.pid}" in busy.err
    assert {n: d for n, d in everything(site).items() if "etc/" not in n} == {
        n: d for n, d in before.items() if "etc/" not in n
    }
