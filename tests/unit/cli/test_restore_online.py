"""restore --online: a proven state is written into the live file, in one transaction, while its service goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from continuum_tasks import failpoints
from tests.support.cli import PROGRAM
from tests.support.other import START, living, run, sql
from tests.unit.cli.conftest import Call

ONLINE = ("backup", "restore", "--latest", "--online")
# Connections of a service: one that stays, many that come and go; every acknowledged commit is in the file `done`.
SERVICE = """
import pathlib
done = pathlib.Path(path + '.done')
kept = connect(timeout=30); n = 0
print('ready', flush=True)
while not pathlib.Path(path + '.stop').exists() and n < 20000:
    n += 1
    short = connect(timeout=30)
    for one in (kept, short):
        one.execute('INSERT INTO written(n) VALUES (?)', (n,))
        state = one.execute('SELECT name FROM state').fetchone()[0]
        with done.open('a') as file:
            print(n, state, file=file)
    short.close()
    time.sleep(0.002)
"""


def make(path: Path, *, wal: bool) -> None:
    path.unlink()
    mode = "WAL" if wal else "DELETE"
    run(
        path,
        f"""
c = connect(); c.execute('PRAGMA journal_mode={mode}')
c.execute('CREATE TABLE state(name)'); c.execute("INSERT INTO state VALUES ('restored')")
c.execute('CREATE TABLE written(n)'); c.execute('CREATE TABLE many(id INTEGER PRIMARY KEY, x)')
c.execute('BEGIN'); c.executemany('INSERT INTO many(x) VALUES (?)', [('row %d ' % i * 40,) for i in range(2000)])
c.execute('COMMIT'); c.close()
""",
    )


def damaged(call: Call, site: Path, *, wal: bool) -> Path:
    path = site / "memory.db"
    make(path, wal=wal)
    assert call("backup", "create", "--strategy", "full").code == 0
    sql(path, "UPDATE state SET name = 'damaged'; DELETE FROM many WHERE id > 1500; CREATE TABLE later(x)")
    return path


@pytest.fixture
def live(call: Call, site: Path) -> Path:
    """A database in WAL mode whose backup has another state, named `restored`."""
    return damaged(call, site, wal=True)


@pytest.fixture(params=[True, False], ids=["wal", "rollback"])
def either(request: pytest.FixtureRequest, call: Call, site: Path) -> Path:
    """The same in either journal mode."""
    return damaged(call, site, wal=request.param)


def sound(path: Path) -> None:
    assert sql(path, "PRAGMA integrity_check") == "('ok',)"


def quarantined(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f".{path.name}.quarantine-*"))


@contextmanager
def serving(path: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", START + SERVICE, str(path)], stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None and service.stdout.readline() == "ready\n"
        try:
            yield
            Path(f"{path}.stop").touch()
            assert service.wait(60) == 0  # no connection of it ever got an error
        finally:
            service.kill()


def test_every_connection_goes_on_and_sees_the_restored_state_and_what_they_commit_is_kept(call: Call, either: Path) -> None:
    live = either
    with serving(live):
        restored = call(*ONLINE, "--target", str(live), "--wait-writers", "--format", "json")
        assert restored.code == 0, restored.err
        n_then = len(Path(f"{live}.done").read_text().splitlines())
        for _ in range(6000):
            lines = Path(f"{live}.done").read_text().splitlines()
            if len(lines) > n_then + 50:
                break
            time.sleep(0.01)
    told = [line.split() for line in Path(f"{live}.done").read_text().splitlines()]
    first = next(i for i, (_, state) in enumerate(told) if state == "restored")
    assert {state for _, state in told[:first]} == {"damaged"} and {state for _, state in told[first:]} == {"restored"}
    sound(live)
    kept = sql(live, "SELECT count(*) FROM written; SELECT name FROM state; SELECT count(*) FROM many")
    # The commit before the first one that saw the restored state may have been its very own predecessor.
    n_after = len(told) - first
    assert kept in {f"({n},)('restored',)(2000,)" for n in (n_after, n_after + 1)}, (kept, n_after)


def test_the_replaced_state_is_kept_to_the_last_commit_and_undo_puts_it_back(call: Call, either: Path) -> None:
    live = either
    sql(live, "INSERT INTO later VALUES ('last')")
    done = call(*ONLINE, "--target", str(live), "--format", "json")
    assert done.code == 0, done.err
    assert sql(live, "SELECT name FROM state") == "('restored',)"
    (kept,) = quarantined(live)
    assert done.json["quarantine"] == str(kept)
    copy = live.with_name("copy.db")
    shutil.copy(kept / live.name, copy)
    assert sql(copy, "SELECT x FROM later; SELECT name FROM state; PRAGMA integrity_check") == "('last',)('damaged',)('ok',)"
    assert call("backup", "restore", "--undo", "--target", str(live)).code == 0
    assert sql(live, "SELECT x FROM later; SELECT name FROM state") == "('last',)('damaged',)"


def test_only_pages_that_differ_are_written(call: Call, either: Path) -> None:
    live = either
    sql(live, "DROP TABLE later; INSERT INTO many SELECT id + 500, x FROM many WHERE id BETWEEN 1001 AND 1500")
    with living(live, "c = connect(); c.execute('SELECT 1 FROM state').fetchall()"):
        wal = Path(f"{live}-wal")
        before = wal.stat().st_size if wal.exists() else 0
        done = call(*ONLINE, "--target", str(live), "--format", "json")
        assert done.code == 0, done.err
        written = done.json["online"]
        assert 0 < written["n_pages_written"] < written["n_pages"]
        if wal.exists():
            assert wal.stat().st_size - before <= (written["n_pages_written"] + 1) * (4096 + 24) + 32
    again = call(*ONLINE, "--target", str(live), "--format", "json")
    assert (again.code, again.json["online"]["n_pages_written"], again.json["quarantine"]) == (0, 0, None)


def test_a_dry_run_says_pages_space_and_lock_time_and_changes_nothing(call: Call, live: Path) -> None:
    before = live.read_bytes()
    done = call(*ONLINE, "--target", str(live), "--dry-run", "--format", "json")
    assert done.code == 0, done.err
    plan = done.json["online"]
    assert 0 < plan["n_pages_differ"] <= plan["n_pages"]
    assert plan["log_bytes"] >= plan["n_pages_differ"] * 4096 and plan["lock_seconds"] > 0
    assert plan["busy_window_seconds"] == 4 and "comparing took" in plan["how_estimated"]
    text = call(*ONLINE, "--target", str(live), "--dry-run").out
    assert "pages that differ" in text and "writers wait" in text and "needed" in text
    assert live.read_bytes() == before and not quarantined(live)


def test_a_lock_that_would_outlast_the_busy_window_is_refused_unless_writers_may_wait(
    call: Call, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("continuum_tasks.restore.plan.online.ASSUMED_SYNC_SECONDS", 5.0)
    dry = call(*ONLINE, "--target", str(live), "--dry-run")
    assert dry.code == 0 and "busy window" in dry.err
    refused = call(*ONLINE, "--target", str(live))
    assert refused.code == 9 and "busy window" in refused.err and "--wait-writers" in refused.err
    assert sql(live, "SELECT name FROM state") == "('damaged',)" and not quarantined(live)
    assert call(*ONLINE, "--target", str(live), "--wait-writers").code == 0
    assert sql(live, "SELECT name FROM state") == "('restored',)"


def test_a_lock_that_does_outlast_the_busy_window_is_given_up_with_nothing_written(
    call: Call, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("backup", "config", "set", "database:memory.busy_window", "1s").code == 0
    monkeypatch.setenv("CONTINUUM_FAILPOINTS", "online.locked=sleep:1.2")
    refused = call(*ONLINE, "--target", str(live))
    assert refused.code == 9 and "nothing was written" in refused.err and "--wait-writers" in refused.err
    assert sql(live, "SELECT name FROM state") == "('damaged',)" and not quarantined(live)
    sound(live)


def test_another_page_size_is_refused_before_anything_is_fetched(call: Call, live: Path) -> None:
    live.unlink()
    for left in ("-wal", "-shm"):
        Path(f"{live}{left}").unlink(missing_ok=True)
    run(live, "c = connect(); c.execute('PRAGMA page_size=8192'); c.execute('CREATE TABLE t(x)'); c.close()")
    for words in ((), ("--dry-run",)):
        done = call(*ONLINE, "--target", str(live), *words)
        assert done.code == (0 if words else 9)
        assert "page size is 8192" in done.err and "without --online" in done.err


def test_other_reserved_bytes_are_refused(call: Call, live: Path) -> None:
    data = bytearray(live.read_bytes())
    data[20] = 8
    live.write_bytes(data)
    done = call(*ONLINE, "--target", str(live))
    assert done.code == 9 and "reserved bytes per page is 8" in done.err and "without --online" in done.err
    assert live.read_bytes() == data


def test_another_text_encoding_is_refused(call: Call, live: Path) -> None:
    live.unlink()
    for left in ("-wal", "-shm"):
        Path(f"{live}{left}").unlink(missing_ok=True)
    run(live, "c = connect(); c.execute(\"PRAGMA encoding='UTF-16le'\"); c.execute('CREATE TABLE t(x)'); c.close()")
    done = call(*ONLINE, "--target", str(live))
    assert done.code == 9 and "text encoding is UTF-16le" in done.err


@pytest.mark.parametrize("what", ["missing", "empty", "text", "symlink", "hard link"])
def test_what_is_no_live_database_is_refused_with_the_remedy(call: Call, live: Path, what: str) -> None:
    target = live.with_name("other.db")
    match what:
        case "empty":
            target.touch()
        case "text":
            target.write_text("no database, just text" * 100)
        case "symlink":
            target.symlink_to(live)
        case "hard link":
            target.hardlink_to(live)
    done = call(*ONLINE, "--target", str(target))
    assert done.code == 9 and done.err and "Traceback" not in done.err
    assert sql(live, "SELECT name FROM state") == "('damaged',)"


def test_a_database_whose_tables_are_damaged_is_written_over(call: Call, live: Path) -> None:
    with live.open("rb+") as file:
        file.seek(100)
        file.write(os.urandom(3000))
    done = call(*ONLINE, "--target", str(live))
    assert done.code == 0, done.err
    assert sql(live, "SELECT name FROM state; PRAGMA integrity_check") == "('restored',)('ok',)"


def test_a_state_of_a_commit_and_of_a_backup_are_proven_by_verify_recovery(call: Call, live: Path) -> None:
    assert call(*ONLINE, "--target", str(live)).code == 0
    proof = call("backup", "verify-recovery", "--format", "json")
    assert (proof.code, proof.json["verdict"]) == (0, "identical"), proof.err
    sql(live, "INSERT INTO written VALUES (1)")
    proof = call("backup", "verify-recovery", "--format", "json")
    assert (proof.code, proof.json["verdict"]) == (0, "written since"), proof.err


@pytest.mark.parametrize("point", failpoints.ONLINE)
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(call: Call, either: Path, point: str) -> None:
    live = either
    command = [*PROGRAM, *ONLINE, "--target", str(live)]
    with living(live, "c = connect(); c.execute('SELECT * FROM state').fetchall()"):
        killed = subprocess.run(
            command, env={**os.environ, "CONTINUUM_FAILPOINTS": f"{point}=kill"}, capture_output=True, text=True, check=False
        )
    assert killed.returncode == 11 and "before it said" in killed.stderr
    wanted = "restored" if point == "online.committed" else "damaged"
    assert sql(live, "SELECT name FROM state; PRAGMA integrity_check") == f"('{wanted}',)('ok',)"
    assert call(*ONLINE, "--target", str(live)).code == 0
    assert sql(live, "SELECT name FROM state; PRAGMA integrity_check") == "('restored',)('ok',)"


def test_a_killed_command_leaves_no_process_that_holds_the_lock(call: Call, live: Path) -> None:
    command = [*PROGRAM, *ONLINE, "--target", str(live), "--wait-writers"]
    env = {**os.environ, "CONTINUUM_FAILPOINTS": "online.replaced_kept=sleep:600"}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(6000):
            if quarantined(live) or process.poll() is not None:
                break
            time.sleep(0.01)
        process.kill()
    run(live, "c = connect(timeout=60); c.execute(\"INSERT INTO later VALUES ('after')\"); c.close()")
    assert sql(live, "SELECT name FROM state; SELECT x FROM later; PRAGMA integrity_check") == "('damaged',)('after',)('ok',)"


def test_wait_writers_and_online_are_taken_where_they_mean_something(call: Call, live: Path) -> None:
    done = call("backup", "restore", "--latest", "--target", str(live), "--wait-writers")
    assert done.code == 2 and "--online" in done.err
    assert call("backup", "restore", "--undo", "--online", "--target", str(live)).code == 2
