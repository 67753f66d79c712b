"""A state written into a live database, page by page, through SQLite; judged by the standard library's."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from continuum_tasks.errors import JobFailed, NoSpace, ProofFailed, TargetBusy, TargetError
from continuum_tasks.restore.install import online
from continuum_tasks.restore.install.online import check_online, live_writer
from continuum_tasks.restore.install.overwrite import Order, Written
from tests.support.other import START, living, sql
from tests.support.overwriting import database, order


def written(one: Order) -> Written:
    with live_writer(one) as writer:
        return writer.write()


READER = """
import pathlib
c = connect(); before = c.execute('SELECT count(*) FROM t').fetchone()
print('ready', flush=True); sys.stdin.readline()
print(before, c.execute('SELECT count(*) FROM t').fetchone(), c.execute('PRAGMA integrity_check').fetchone(), flush=True)
"""


@pytest.mark.parametrize(("n_live", "n_state"), [(50, 400), (400, 50)], ids=["grows", "shrinks"])
@pytest.mark.parametrize(
    ("journal", "av_live", "av_state"),
    [("WAL", 0, 0), ("DELETE", 0, 0), ("WAL", 1, 0), ("DELETE", 1, 0), ("DELETE", 1, 1), ("WAL", 0, 1), ("WAL", 2, 2)],
)
def test_every_size_and_kind_of_auto_vacuum_is_exact_and_seen_by_a_connection_that_stays(
    tmp_path: Path, journal: str, n_live: int, n_state: int, av_live: int, av_state: int
) -> None:
    free = "c.execute('CREATE TABLE gone AS SELECT * FROM t'); c.execute('DROP TABLE gone')"
    live = database(
        tmp_path / "live.db", n_rows=n_live, auto_vacuum=av_live, then=f"c.execute('PRAGMA journal_mode={journal}')"
    )
    source = database(tmp_path / "source.db", n_rows=n_state, auto_vacuum=av_state, then=free)
    state = source.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", START + READER, str(live)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None and reader.stdin is not None and reader.stdout.readline() == "ready\n"
        written(order(live, source))
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline().strip() == f"({n_live},) ({n_state},) ('ok',)"
    sql(live, "PRAGMA wal_checkpoint(TRUNCATE)")
    now = live.read_bytes()
    assert len(now) == len(state) and now[4096:] == state[4096:]
    assert now[100:4096] == state[100:4096] and now[44:92] == state[44:92]
    replaced = tmp_path / "quarantine" / "live.db"
    assert sql(replaced, "SELECT count(*) FROM t; PRAGMA integrity_check") == f"({n_live},)('ok',)"
    assert sql(live, "PRAGMA auto_vacuum; INSERT INTO t(x) VALUES (1); PRAGMA integrity_check") == f"({av_state},)('ok',)"


def test_a_connection_that_knew_another_schema_of_the_same_number_reads_the_new_one(tmp_path: Path) -> None:
    live = database(tmp_path / "live.db", n_rows=5, then="c.execute('CREATE TABLE mine(a, b)')")
    then = "c.execute('CREATE TABLE mine(b, a)'); c.execute('INSERT INTO mine VALUES (1, 2)')"
    source = database(tmp_path / "source.db", n_rows=5, then=then)
    code = """
c = connect(); c.execute('SELECT a FROM mine').fetchall(); print('ready', flush=True); sys.stdin.readline()
print(c.execute('SELECT a FROM mine').fetchall(), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", START + code, str(live)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None and reader.stdin is not None and reader.stdout.readline() == "ready\n"
        written(order(live, source))
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "[(2,)]\n"


def test_a_writer_that_stays_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    live, source = database(tmp_path / "live.db", n_rows=5), database(tmp_path / "source.db", n_rows=50)
    with living(live, "c = connect(); c.execute('BEGIN IMMEDIATE')"), pytest.raises(TargetBusy, match="locked by others"):
        written(order(live, source, lock_wait_seconds=0.2))
    assert sql(live, "SELECT count(*) FROM t") == "(5,)" and not (tmp_path / "quarantine").exists()


def test_a_reader_that_stays_makes_a_rollback_journal_database_busy_and_nothing_is_written(tmp_path: Path) -> None:
    live, source = database(tmp_path / "live.db", n_rows=5), database(tmp_path / "source.db", n_rows=50)
    with living(live, "c = connect(); c.execute('BEGIN'); c.execute('SELECT 1 FROM t').fetchall()"):
        with pytest.raises(TargetBusy):
            written(order(live, source, window_seconds=1.0))
        assert sql(live, "SELECT count(*) FROM t") == "(5,)"
    assert not (tmp_path / "quarantine").exists()
    assert sql(live, "PRAGMA integrity_check") == "('ok',)"


def test_what_was_committed_between_the_comparison_and_the_lock_is_overwritten_and_kept(tmp_path: Path) -> None:
    live, source = database(tmp_path / "live.db", n_rows=500), database(tmp_path / "source.db", n_rows=500)
    sql(live, "UPDATE t SET x = 'other' WHERE id = 1")
    with live_writer(order(live, source)) as writer:
        sql(live, "UPDATE t SET x = 'late' WHERE id = 450")
        writer.write()
    assert sql(live, "SELECT count(*) FROM t WHERE x IN ('late', 'other'); PRAGMA integrity_check") == "(0,)('ok',)"
    assert sql(tmp_path / "quarantine" / "live.db", "SELECT x FROM t WHERE id = 450") == "('late',)"


def test_bytes_that_are_not_those_that_were_proven_are_never_committed(tmp_path: Path) -> None:
    live, source = database(tmp_path / "live.db", n_rows=50), database(tmp_path / "source.db", n_rows=80)
    one = order(live, source)
    with source.open("rb+") as file:
        file.seek(-3, 2)
        file.write(b"bad")
    with pytest.raises(ProofFailed, match=f"page {one.n_pages} "):
        written(one)
    assert sql(live, "SELECT count(*) FROM t; PRAGMA integrity_check") == "(50,)('ok',)"


def test_a_full_disk_leaves_the_old_state(tmp_path: Path) -> None:
    live = database(tmp_path / "live.db", n_rows=50, then="c.execute('PRAGMA journal_mode=WAL')")
    source = database(tmp_path / "source.db", n_rows=4000)
    one = order(live, source)
    limit = source.stat().st_size // 2  # of the log: a write beyond it fails as on a full disk
    with living(live, "c = connect(); c.execute('SELECT 1 FROM t').fetchall()"), live_writer(one) as writer:
        resource.prlimit(writer.pid, resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises((NoSpace, TargetError)) as raised:
            writer.write()
        assert not isinstance(raised.value, JobFailed)
    assert sql(live, "SELECT count(*) FROM t; PRAGMA integrity_check") == "(50,)('ok',)"
    assert not (tmp_path / "quarantine").exists()


def test_a_process_that_dies_is_no_verdict(tmp_path: Path) -> None:
    live, source = database(tmp_path / "live.db", n_rows=5), database(tmp_path / "source.db", n_rows=50)
    with live_writer(order(live, source)) as writer:
        subprocess.run(["kill", "-9", str(writer.pid)], check=True)
        time.sleep(0.1)  # most often it is dead by then, and its pipe broken
        with pytest.raises(JobFailed, match="before it said"):
            writer.write()
    assert sql(live, "SELECT count(*) FROM t") == "(5,)"


def test_pages_of_512_bytes_are_written(tmp_path: Path) -> None:
    live, source = (database(tmp_path / name, n_rows=n, page_size=512) for name, n in (("live.db", 9), ("source.db", 99)))
    written(order(live, source))
    assert sql(live, "SELECT count(*) FROM t; PRAGMA integrity_check") == "(99,)('ok',)"


def test_without_the_sqlite_that_writes_pages_it_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = database(tmp_path / "live.db", n_rows=5)
    monkeypatch.setattr(online, "LIBRARY", "no-such-library.so")
    with pytest.raises(TargetError, match="binary wheel") as raised:
        check_online(live, page_size=4096, accepted=())
    assert "without --online" in raised.value.hint
