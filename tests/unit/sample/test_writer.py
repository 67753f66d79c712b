"""The writer: what it logs is what was committed, and it can be replayed."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks.sample.oracle import logical_hash
from continuum_tasks.sample.writer import Commit, WritePlan, WriteReport, adding, write

pytestmark = pytest.mark.slow


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def last_sequence(path: Path) -> int:
    return int(query(path, "SELECT max(sequence) FROM thinking_snapshots")[0][0])


def strengths(path: Path) -> dict[int, float]:
    return {link: strength for link, strength in query(path, "SELECT id, strength FROM attention_links")}


def begin_writer(path: Path, log: Path) -> subprocess.Popen[str]:
    arguments = ["write", str(path), "--forever", "--rate", "200", "--commits-log", str(log)]
    process = subprocess.Popen([sys.executable, "-m", "continuum_tasks.sample", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_text().count("\n") >= 20):
            assert time.monotonic() < deadline, "the writer made no 20 commits in 120 s"
            time.sleep(0.02)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return process


def logged(log: Path) -> list[int]:
    return [json.loads(line)["sequence"] for line in log.read_text().splitlines()]


def test_the_commits_are_numbered_without_a_gap_and_are_all_in_the_database(sample: Path) -> None:
    before = last_sequence(sample)

    commits = list(write(sample, WritePlan(rate=10_000, commits=40)))

    expected = list(range(before + 1, before + 41))
    assert [commit.sequence for commit in commits] == expected
    found = query(sample, f"SELECT sequence FROM thinking_snapshots WHERE sequence > {before} ORDER BY sequence")
    assert [sequence for (sequence,) in found] == expected


def test_as_many_commits_on_a_copy_of_the_start_give_the_same_state(sample: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copyfile(sample, copy)
    plan = WritePlan(rate=10_000, commits=30, seed=8)

    list(write(sample, plan))
    states = []
    for _ in range(3):
        list(write(copy, WritePlan(rate=10_000, commits=10, seed=8)))
        states.append(logical_hash(copy).sha256)

    assert states[-1] == logical_hash(sample).sha256
    assert len(set(states)) == 3


def test_it_inserts_updates_and_deletes_and_breaks_no_reference(sample: Path) -> None:
    before, counts = strengths(sample), logical_hash(sample).counts

    list(write(sample, WritePlan(rate=10_000, commits=150)))

    after, later = strengths(sample), logical_hash(sample).counts
    assert any(after[link] != strength for link, strength in before.items() if link in after)
    assert before.keys() - after.keys()
    assert sum(later[table] > counts[table] for table in counts) >= 8
    assert query(sample, "PRAGMA foreign_key_check") == []
    assert query(sample, "PRAGMA integrity_check") == [("ok",)]


def test_a_locked_database_is_tried_again_and_the_wait_is_reported(sample: Path) -> None:
    holder = sqlite3.connect(sample, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.5, holder.execute, ("COMMIT",))
    timer.start()

    commits = list(write(sample, WritePlan(rate=10_000, commits=3, busy_timeout_seconds=0.05)))

    timer.join()
    holder.close()
    assert commits[0].n_locked >= 2
    assert commits[0].n_locked * 0.05 <= commits[0].took_seconds < 30
    assert [commit.n_locked for commit in commits[1:]] == [0, 0]
    report = WriteReport()
    for commit in commits:
        report = adding(report, commit)
    assert report.longest == commits[0]
    assert (report.n_commits, report.n_locked) == (3, commits[0].n_locked)


def test_a_reader_that_holds_up_the_commit_itself_costs_no_sequence_number(sample: Path) -> None:
    before = last_sequence(sample)
    reader = sqlite3.connect(sample, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM messages").fetchall()
    timer = threading.Timer(0.3, reader.execute, ("COMMIT",))
    timer.start()

    commits = list(write(sample, WritePlan(rate=10_000, commits=2, busy_timeout_seconds=0.05)))

    timer.join()
    reader.close()
    assert [commit.sequence for commit in commits] == [before + 1, before + 2]
    assert last_sequence(sample) == before + 2


def test_the_rate_and_the_seconds_are_kept(sample: Path) -> None:
    begun_at = time.monotonic()

    commits = list(write(sample, WritePlan(rate=20, seconds=1.0)))

    assert 2 <= len(commits) <= 21
    assert 0.9 <= time.monotonic() - begun_at < 30


def test_it_stops_when_told(sample: Path) -> None:
    made: list[Commit] = []
    enough: Callable[[], bool] = lambda: len(made) >= 5  # noqa: E731

    for commit in write(sample, WritePlan(rate=10_000), stopped=enough):
        made.append(commit)  # `enough` looks at it while the writer runs

    assert len(made) == 5


def test_a_missing_database_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "gone.db"

    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        list(write(path, WritePlan(rate=1, commits=1)))

    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_it_with_a_report_and_a_log_that_equals_the_database(sample: Path, tmp_path: Path) -> None:
    before, log = last_sequence(sample), tmp_path / "commits.jsonl"
    process = begin_writer(sample, log)

    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)

    report = json.loads(out.splitlines()[-1])
    assert process.returncode == 0
    assert logged(log) == list(range(before + 1, last_sequence(sample) + 1))
    assert (report["n_commits"], report["last_sequence"]) == (len(logged(log)), last_sequence(sample))
    assert report["longest"]["took_seconds"] > 0


def test_after_sigkill_the_log_lacks_at_most_the_last_commit(sample: Path, tmp_path: Path) -> None:
    before, log = last_sequence(sample), tmp_path / "commits.jsonl"
    process = begin_writer(sample, log)

    process.kill()
    process.communicate(timeout=120)

    sequences = logged(log)
    assert sequences == list(range(before + 1, before + 1 + len(sequences)))
    assert last_sequence(sample) - sequences[-1] in (0, 1)
