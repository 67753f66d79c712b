"""history, restore --commit, restore --pitr and extract where commits were captured: exact, or refused naming what works."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, write_status
from continuum_tasks.config import load_config
from continuum_tasks.model import BackupId, TimelineId
from continuum_tasks.repository.timelines import put_timeline
from continuum_tasks.runtime import open_runtime
from tests.support.oracle import dump
from tests.support.recording import SECOND_US, Recorder, stand
from tests.unit.cli.conftest import Call

SIZE = 12  # commits of the recording


@pytest.fixture
def recorder(call: Call, site: Path, full: str) -> Iterator[Recorder]:
    """The site's database, recorded from a minute ago on; its full backup stands at commit 1."""
    config = load_config(site / "etc")
    scratch = site / "scratch"
    scratch.mkdir()
    now_us = int((datetime.now(UTC) - timedelta(minutes=1)).timestamp()) * SECOND_US
    with open_runtime(config) as runtime:
        made = Recorder(
            path=site / "memory.db",
            repository=runtime.repository(),
            scratch=scratch,
            database=config.default_database,
            now_us=now_us,
            key_id=config.backup.encryption_key_id,
        )
        with made:
            made.ship()
            known = {b.id: b for b in runtime.catalog.backups()}
            stand(runtime, known[BackupId(full)], made.timeline.id, 1)
            yield made


@pytest.fixture
def deleted(recorder: Recorder) -> Recorder:
    """Twelve commits; number 8 deletes all messages."""
    for number in range(2, SIZE + 1):
        sql = "DELETE FROM messages" if number == 8 else "UPDATE messages SET content = 'x' || content WHERE id % 50 = 3"
        recorder.run(f"{sql}; CREATE TABLE IF NOT EXISTS log (n); INSERT INTO log VALUES ({number})")
        if number % 3 == 0:
            recorder.ship()
    return recorder


def at(recorder: Recorder, number: int, *, seconds: float = 0) -> str:
    us = recorder.captured[number - 1].commit.observed_us + int(seconds * SECOND_US)
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()


def n_messages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])


def test_the_deletions_own_commit_is_found_and_the_state_before_it_restored(call: Call, site: Path, deleted: Recorder) -> None:
    before = n_messages(deleted.state(7))
    rows_of_messages = ("--table", "messages", "--format", "json")
    shown = call("backup", "history", "--around", at(deleted, 9), "--limit", "8", "--tables", "--format", "json")
    assert shown.code == 0, shown.err
    touching = [one["number"] for one in reversed(shown.json["commits"]) if one["tables_now"].get("messages")]
    rows = {number: call("backup", "extract", "--commit", str(number), *rows_of_messages).out for number in touching}
    found = next(number for number in touching if not rows[number])
    assert found == 8

    done = call("backup", "restore", "--commit", str(found - 1), "--target", "r.db", "--verify", "--format", "json")

    assert done.code == 0, done.err
    assert n_messages(site / "r.db") == before > 0
    assert dump(site / "r.db") == dump(deleted.state(7))
    assert f"--commit: commit 7 of {deleted.timeline.id}, observed" in done.err
    assert "made at most 0.02 s before" in done.err
    assert done.json["commit"] == {
        "timeline": deleted.timeline.id,
        "number": 7,
        "observed_at": at(deleted, 7),
        "uncertainty_seconds": 0.02,
        "pages": deleted.captured[6].commit.n_stored,
        "size_bytes": deleted.state(7).stat().st_size,
        "resumed": False,
        "reason": "",
    }
    proof = call("backup", "verify-recovery", "--format", "json")
    assert (proof.code, proof.json["verdict"]) == (0, "identical")


def test_pitr_is_exact_to_the_commit(call: Call, site: Path, deleted: Recorder) -> None:
    for number, seconds in ((4, 0.0), (7, 0.999), (8, 0.0), (2, 0.5)):
        done = call("backup", "restore", "--pitr", at(deleted, number, seconds=seconds), "--target", "r.db", "--overwrite")
        assert done.code == 0, done.err
        assert f"--pitr: commit {number} of {deleted.timeline.id}" in done.err
        assert f"commit {number} of {deleted.timeline.id}" in done.out
        assert dump(site / "r.db") == dump(deleted.state(number))


def test_the_row_of_a_restore_by_a_worker_names_the_commit(call: Call, site: Path, deleted: Recorder, full: str) -> None:
    from continuum_tasks.host.job_kinds import RestoreBackup, decode_arguments
    from continuum_tasks.model import CommitRef

    row = {"backup_id": full, "storage": "local", "target": "/x", "overwrite": False, "verify": False}
    at = decode_arguments(RestoreBackup, {**row, "commit": 7, "timeline": str(deleted.timeline.id)}, row="job 1")
    assert at.point == CommitRef(timeline=deleted.timeline.id, number=7)
    assert decode_arguments(RestoreBackup, row, row="job 1").point is None


def test_a_dry_run_says_which_commit_and_what_is_read(call: Call, site: Path, deleted: Recorder, full: str) -> None:
    done = call("backup", "restore", "--commit", "7", "--target", "memory.db", "--overwrite", "--dry-run", "--exact")
    assert done.code == 0, done.err
    assert f"would restore  commit 7 of {deleted.timeline.id}" in done.out
    assert f"{full} and the commits after it" in done.out
    assert "3 of them segments" in done.out
    fields = call("backup", "restore", "--commit", "7", "--target", "n.db", "--dry-run", "--format", "json").json
    assert (fields["commit"]["number"], fields["n_segments"]) == (7, 3)
    assert not (site / "n.db").exists()


def test_extract_brings_back_what_a_commit_deleted(call: Call, site: Path, deleted: Recorder) -> None:
    words = ("backup", "extract", "--commit", "7", "--table", "messages", "--into", "memory.db")
    done = call(*words, "--format", "json")
    assert done.code == 0, done.err
    assert done.json["commit"]["number"] == 7
    assert n_messages(site / "memory.db") == n_messages(deleted.state(7)) == done.json["written"]["n_inserted"]
    again = call("backup", "verify-recovery", "--format", "json")
    assert again.code == 0, again.err
    assert "0 with other content" in again.json["findings"][0]


def test_extract_at_a_time_is_exact_to_the_commit(call: Call, site: Path, deleted: Recorder) -> None:
    lines = call("backup", "extract", "--pitr", at(deleted, 6, seconds=0.4), "--table", "log", "--format", "json")
    assert lines.code == 0, lines.err
    assert [json.loads(line)["n"] for line in lines.out.splitlines()] == [2, 3, 4, 5, 6]


def say(state_dir: Path, recorder: Recorder, *, commit: int, until_us: int) -> None:
    """Let the capture on this host say how far it came."""
    values = {one.name: {"str": "", "int": 0, "float": 0.0, "bool": False}.get(str(one.type)) for one in fields(CaptureStatus)}
    known = {"database": recorder.database, "state": CaptureState.STOPPED, "timeline": recorder.timeline.id, "commit": commit}
    directory = state_dir / "capture" / recorder.database
    directory.mkdir(parents=True, exist_ok=True)
    write_status(directory, CaptureStatus(**{**values, **known, "watched_until_us": until_us}))


def numbers(shown: Any) -> list[int]:
    return [one["number"] for one in shown.json["commits"]]


def test_history_lists_what_was_asked_for_newest_first(call: Call, site: Path, deleted: Recorder) -> None:
    def asked(*words: str) -> list[int]:
        return numbers(call("backup", "history", *words, "--format", "json"))

    assert asked() == list(range(12, 0, -1))
    assert asked("--limit", "3") == [12, 11, 10]
    assert asked("--since", at(deleted, 9)) == [12, 11, 10, 9]
    assert asked("--around", at(deleted, 6), "--limit", "4") == [8, 7, 6, 5]
    assert asked("--around", at(deleted, 6, seconds=0.5), "--limit", "2") == [7, 6]
    assert asked("--around", at(deleted, 1, seconds=-9), "--limit", "4") == [3, 2, 1]
    assert asked("--around", at(deleted, 12, seconds=9), "--limit", "4") == [12, 11, 10, 9]
    assert asked("--timeline", deleted.timeline.id, "--limit", "1") == [12]
    assert asked("--since", at(deleted, 12, seconds=1)) == []
    both = call("backup", "history", "--since", "1h", "--around", "1h")
    assert both.code == 2


def test_history_as_a_table_shows_holes(call: Call, site: Path, recorder: Recorder) -> None:
    recorder.run("CREATE TABLE log (n)")
    recorder.resume(unseen_us=5 * SECOND_US, reason="the -wal was gone")
    recorder.run("INSERT INTO log VALUES (1)")
    recorder.ship()

    done = call("backup", "history")

    assert done.code == 0, done.err
    assert recorder.timeline.id in done.out
    assert "hole of 5.00 s: the -wal was gone" in done.out
    assert "state found" in done.out
    tables = call("backup", "history", "--tables")
    assert "TABLES NOW" in tables.out and "log 1" in tables.out


def test_a_time_in_a_hole_is_refused_naming_its_edges(call: Call, site: Path, recorder: Recorder) -> None:
    recorder.run("CREATE TABLE log (n)")
    recorder.resume(unseen_us=5 * SECOND_US, reason="the -wal was gone")
    recorder.ship()

    done = call("backup", "restore", "--pitr", at(recorder, 3, seconds=-2), "--target", "r.db")

    assert done.code == 8
    assert "is in a hole" in done.err
    assert "(commit 2)" in done.err and "(commit 3)" in done.err
    assert f"--commit 2 --timeline {recorder.timeline.id}" in done.err
    assert not (site / "r.db").exists()
    beyond = call("backup", "restore", "--commit", "3", "--target", "r.db")
    assert beyond.code == 8
    assert "the hole before commit 3 lies between" in beyond.err
    edge = call("backup", "restore", "--pitr", at(recorder, 2), "--target", "r.db")
    assert edge.code == 0, edge.err


def test_a_time_after_the_last_commit_is_refused_naming_the_range_unless_the_capture_was_watching(
    call: Call, site: Path, deleted: Recorder
) -> None:
    after = at(deleted, 12, seconds=10)

    done = call("backup", "restore", "--pitr", after, "--target", "r.db")

    assert done.code == 8
    assert f"has commits 1 to 12, from {at(deleted, 1)[:19]}" in done.err
    assert "--commit 12" in done.err
    until_us = deleted.now_us + 10 * SECOND_US
    say(load_config(site / "etc").state_dir, deleted, commit=13, until_us=until_us)
    behind = call("backup", "restore", "--pitr", after, "--target", "r.db")
    assert behind.code == 8  # a thirteenth commit was captured and is not stored yet
    say(load_config(site / "etc").state_dir, deleted, commit=12, until_us=until_us)
    watched = call("backup", "restore", "--pitr", after, "--target", "r.db")
    assert watched.code == 0, watched.err
    assert "--pitr: commit 12 of" in watched.err


def test_a_backup_made_after_the_last_commit_stands_for_a_later_time(call: Call, site: Path, deleted: Recorder) -> None:
    made = call("backup", "create", "--strategy", "full", "--format", "json").json
    done = call("backup", "restore", "--pitr", "0s", "--target", "r.db", "--format", "json")
    assert done.code == 0, done.err
    assert done.json["backup_id"] == made["backup_id"]
    assert done.json["commit"] is None
    assert "--pitr: commits are known up to" in done.err


def test_a_time_before_the_first_commit_is_a_backups(call: Call, site: Path, deleted: Recorder) -> None:
    done = call("backup", "restore", "--pitr", at(deleted, 1, seconds=-1), "--target", "r.db")
    assert done.code == 8  # the backup was made after the recording's pretended beginning
    assert "commits are known from" in done.err
    assert "name a time from" in done.err


@pytest.mark.parametrize("words", [("--commit", "99"), ("--commit", "3", "--timeline", "timeline-20200101-000000-00000000")])
def test_a_commit_that_is_not_there_is_refused(call: Call, site: Path, deleted: Recorder, words: tuple[str, ...]) -> None:
    done = call("backup", "restore", *words, "--target", "r.db")
    assert done.code == 8
    assert "hint: " in done.err
    assert not (site / "r.db").exists()


def test_a_commit_before_every_base_is_refused_naming_the_first_that_works(
    call: Call, site: Path, deleted: Recorder, full: str
) -> None:
    with open_runtime(load_config(site / "etc")) as runtime:
        known = {b.id: b for b in runtime.catalog.backups()}
        stand(runtime, known[BackupId(full)], deleted.timeline.id, 4, settled=6)
    done = call("backup", "restore", "--commit", "5", "--target", "r.db")
    assert done.code == 8
    assert f"--commit 6 --timeline {deleted.timeline.id}, from {full}" in done.err


def test_an_older_timeline_is_reached_by_its_name(call: Call, site: Path, deleted: Recorder, full: str) -> None:
    other_scratch = site / "other"
    other_scratch.mkdir()
    deleted.connection.close()
    newer = Recorder(
        path=site / "memory.db",
        repository=deleted.repository,
        scratch=other_scratch,
        database=deleted.database,
        now_us=deleted.now_us + 5 * SECOND_US,
        key_id=deleted.key_id,
        previous=deleted.timeline.id,
    )
    with newer:
        newer.run("CREATE TABLE other (n)")
        newer.ship()
    old = ("--timeline", deleted.timeline.id)
    assert numbers(call("backup", "history", "--format", "json"))[:4] == [2, 1, 12, 11]
    assert numbers(call("backup", "history", *old, "--format", "json"))[0] == 12
    assert call("backup", "restore", "--commit", "7", "--target", "r.db").code == 8
    done = call("backup", "restore", "--commit", "7", *old, "--target", "r.db")
    assert done.code == 0, done.err
    by_time = call("backup", "restore", "--pitr", at(deleted, 9, seconds=0.5), "--target", "s.db")
    assert by_time.code == 0, by_time.err
    hole = call("backup", "restore", "--pitr", at(deleted, 12, seconds=2), "--target", "t.db")
    assert hole.code == 8
    assert f"the last of {deleted.timeline.id}" in hole.err and f"the first of {newer.timeline.id}" in hole.err


def test_timelines_of_other_hosts_are_taken_only_where_it_is_clear_whose(
    call: Call, site: Path, deleted: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTINUUM_HOST", "h2")
    assert numbers(call("backup", "history", "--format", "json"))[0] == 12  # as after a disaster
    other = replace(deleted.timeline, id=TimelineId("timeline-20200101-000000-00000000"), host="h3")
    put_timeline(deleted.repository, other)
    done = call("backup", "history")
    assert done.code == 2
    assert "hosts h1, h3 capture one of that name" in done.err
    assert call("backup", "history", "--timeline", deleted.timeline.id).code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--commit", "3", "--latest"),
        ("--commit", "3", "--pitr", "1h"),
        ("--latest", "--timeline", "timeline-20200101-000000-00000000"),
        ("--commit", "3", "--undo"),
        ("--commit", "0"),
        ("--commit", "3", "--timeline", "../x"),
    ],
)
def test_words_that_do_not_go_together_are_refused(call: Call, site: Path, words: tuple[str, ...]) -> None:
    assert call("backup", "restore", *words, "--target", "r.db").code == 2


def test_history_of_a_database_that_was_never_captured_is_empty(call: Call, site: Path, full: str) -> None:
    done = call("backup", "history")
    assert (done.code, done.out) == (0, "no commits: none was captured, or none since then\n")
    assert call("backup", "restore", "--commit", "1", "--target", "r.db").code == 8


def test_history_of_a_database_without_commits_names_those_that_have_some(call: Call, recorder: Recorder) -> None:
    """On a blank machine the default database may be called otherwise."""
    done = call("backup", "history", "--database", "other")
    assert (done.code, done.out) == (0, "no commits: none was captured, or none since then\n")
    assert f"--database {recorder.timeline.database}" in done.err
