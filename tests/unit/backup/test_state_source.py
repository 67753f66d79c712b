"""Where the state of a backup comes from: what capture has read where that will do, else the database, and why."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from continuum_tasks.backup.choose_parent import choose_parent
from continuum_tasks.backup.create import Finished, create_backup
from continuum_tasks.backup.from_capture import CapturedCommits, CapturedCopy, find_captured_state
from continuum_tasks.backup.state_source import LiveDatabase, NotCaptured, StateSource
from continuum_tasks.capture.pins import base_copy
from continuum_tasks.capture.reader.wal_files import CaptureFiles
from continuum_tasks.capture.state import progress
from continuum_tasks.capture.state.environment import CAPTURE, write_file
from continuum_tasks.capture.state.status import CaptureState
from continuum_tasks.model import Backup, Mark, Strategy
from continuum_tasks.repository.documents import to_json
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.tasks.executor import backup_request
from tests.support.oracle import dump
from tests.support.recording import Recorder
from tests.support.replays import base_at, make_database, open_recorder
from tests.support.sandbox import Options, Sandbox, make, restore_to
from tests.support.statuses import status, tell

FOREVER_NS = 2**62


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "h1", Options(encryption="none"))
    make_database(made.database)
    return made


@pytest.fixture
def recorder(sandbox: Sandbox, tmp_path: Path) -> Iterator[Recorder]:
    with open_recorder(sandbox, tmp_path) as found:
        yield found


@pytest.fixture
def parent(sandbox: Sandbox, recorder: Recorder) -> Backup:
    """A full at the second commit of what is captured, and two commits after it that are in the storage."""
    recorder.run("INSERT INTO t (x) VALUES ('a')")
    recorder.ship()
    made = base_at(sandbox, recorder)
    for text in ("b", "c"):
        recorder.run(f"INSERT INTO t (x) VALUES ('{text}')")
        recorder.ship()
    say(sandbox, recorder)
    reached(sandbox, recorder)
    return made


def say(sandbox: Sandbox, recorder: Recorder, **changes: Any) -> None:
    """Let the capture of the database say that all that was recorded is in the storage."""
    now = datetime.now(UTC) + timedelta(minutes=5)  # as if the process went on while the test runs
    told = status(
        now,
        database="main",
        timeline=str(recorder.timeline.id),
        source=CaptureFiles(path=sandbox.database.resolve()).identity(),
        commit=recorder.number,
        durable_commit=recorder.number,
        settled_monotonic_ns=FOREVER_NS,
    )
    tell(sandbox.config.state_dir, replace(told, **changes), heard_at=now)


def reached(sandbox: Sandbox, recorder: Recorder, *, base_after: int = 0, page_size: int = 4096) -> Path:
    """Let the capture have come as far as the recorder."""
    directory = sandbox.config.state_dir / CAPTURE / "main"
    progress.save(
        directory,
        progress.CaptureProgress(
            storage="local",
            timeline=replace(recorder.timeline, page_size=page_size),
            seq=recorder.seq,
            commit=recorder.number,
            observed_us=recorder.now_us,
            chain=recorder.chain.hex(),
            mark=Mark(salts="00" * 8, frame=0, checksum=(0, 0)),
            source="1:2",
            stamp="",
            base_after=base_after,
            published=True,
        ),
    )
    return directory


def create(sandbox: Sandbox, strategy: str = "incremental") -> tuple[Finished, list[str]]:
    """Make a backup; returns what was said of its steps too."""
    notes: list[str] = []
    with sandbox.runtime() as runtime:
        request = backup_request(runtime, database="", strategy=Strategy(strategy))
        site = replace(runtime.site, pause=lambda _: None)
        steps = create_backup(
            request,
            repository=runtime.repository(request.database.storage),
            site=site,
            fan=runtime.fan(),
            check_lease=lambda: None,
        )
        while True:
            try:
                notes.append(next(steps).note)
            except StopIteration as stop:
                return stop.value, [note for note in notes if note]


def found(sandbox: Sandbox, scratch: Path, strategy: str = "incremental") -> CapturedCopy | CapturedCommits | NotCaptured:
    with sandbox.runtime() as runtime:
        request = backup_request(runtime, database="", strategy=Strategy(strategy))
        repository = runtime.repository(request.database.storage)
        site = replace(runtime.site, pause=lambda _: None)
        chosen = choose_parent(request, 4096, scratch, repository=repository, site=site)
        return find_captured_state(request, chosen, repository=repository, site=site)


def test_an_increment_is_made_of_the_commits_in_the_storage_and_restores_to_the_last(
    sandbox: Sandbox, recorder: Recorder, parent: Backup, tmp_path: Path
) -> None:
    made, notes = create(sandbox)
    assert f"commits up to {recorder.number} as they were captured: the source is not read" in notes
    assert made.backup.parent_id == parent.id
    assert made.backup.position is not None and made.backup.position.commit == recorder.number
    restore_to(sandbox, made.backup.id, tmp_path / "back.db")
    assert dump(tmp_path / "back.db") == dump(recorder.state(recorder.number))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": CaptureState.WAITING}, "its commits are not captured now (waiting)"),
        ({"storage": "other"}, "its commits are captured into storage other"),
        ({"commit": 0}, "no commit was captured yet"),
        ({"source": "9:9"}, "its capture follows another file of that name"),
        ({"timeline": "timeline-20261123-100000-0000abcd"}, "does not stand on timeline timeline-20261123-100000-0000abcd"),
        ({"durable_commit": 1, "commit": 1}, "the storage has commits up to 1 only"),
        ({"durable_commit": 99, "commit": 99}, "are not all to be had: commit 99 of"),
    ],
)
def test_where_what_was_captured_will_not_do_the_database_is_copied_and_the_reason_said(
    sandbox: Sandbox, recorder: Recorder, parent: Backup, changes: dict[str, Any], reason: str
) -> None:
    say(sandbox, recorder, **changes)
    made, notes = create(sandbox)
    assert made.backup.parent_id == parent.id
    (said,) = [note for note in notes if note.startswith("the database is copied: ")]
    assert reason in said


def test_a_capture_that_cannot_ship_or_does_not_look_is_waited_for_and_then_named(
    sandbox: Sandbox, recorder: Recorder, parent: Backup, tmp_path: Path
) -> None:
    say(sandbox, recorder, durable_commit=recorder.number - 1)
    unshipped = found(sandbox, tmp_path)
    assert isinstance(unshipped, NotCaptured) and unshipped.reason == "the newest commits did not reach the storage in time"
    say(sandbox, recorder, settled_monotonic_ns=0)
    blind = found(sandbox, tmp_path)
    assert isinstance(blind, NotCaptured) and "did not look at the database" in blind.reason


def test_a_segment_that_is_gone_is_named_as_the_reason(
    sandbox: Sandbox, recorder: Recorder, parent: Backup, tmp_path: Path
) -> None:
    sorted(sandbox.store.rglob("r-*.segment"))[-2].unlink()
    gone = found(sandbox, tmp_path)
    assert isinstance(gone, NotCaptured) and "segments are missing in storage local: seq 2" in gone.reason


def test_a_full_reads_the_database_and_so_does_an_increment_of_other_pages(
    sandbox: Sandbox, recorder: Recorder, parent: Backup, tmp_path: Path
) -> None:
    assert found(sandbox, tmp_path, "full") == NotCaptured(reason="a full stores every page")
    reached(sandbox, recorder, page_size=8192)
    other = found(sandbox, tmp_path)
    assert isinstance(other, NotCaptured) and "pages of 4096 bytes" in other.reason


def test_the_copy_that_a_timeline_begins_with_is_backed_up_whatever_the_strategy(
    sandbox: Sandbox, recorder: Recorder, parent: Backup, tmp_path: Path
) -> None:
    directory = reached(sandbox, recorder, base_after=recorder.number)
    copy = recorder.state(recorder.number)
    base = base_copy.Base(
        timeline=recorder.timeline.id,
        commit=recorder.number,
        path=str(copy),
        page_size=4096,
        n_pages=copy.stat().st_size // 4096,
        observed_us=recorder.now_us,
    )
    note = json.dumps(to_json(base)).encode()
    write_file(directory / "base.json", note, durable=False)
    made, notes = create(sandbox, "full")
    assert f"the state at commit {recorder.number}, as capture has copied it" in notes
    assert made.backup.position is not None and made.backup.position.settled == recorder.number
    restore_to(sandbox, made.backup.id, tmp_path / "back.db")
    assert dump(tmp_path / "back.db") == dump(copy)


def test_a_copy_of_the_database_stands_where_capture_has_come_or_says_why_it_stands_nowhere(
    sandbox: Sandbox, recorder: Recorder, parent: Backup
) -> None:
    made, notes = create(sandbox, "full")
    assert made.backup.position is not None and made.backup.position.timeline == recorder.timeline.id
    assert not [note for note in notes if "no timeline" in note]
    say(sandbox, recorder, settled_monotonic_ns=0)
    made, notes = create(sandbox, "full")
    assert made.backup.position is None
    assert "the copy stands on no timeline: its capture did not look at the database in 60 tries" in notes


def test_pages_of_another_size_since_the_database_was_inspected_make_a_full(tmp_path: Path) -> None:
    """The parent is chosen for the page size that was inspected; a VACUUM may change it before the copy is made."""
    made = make(tmp_path / "h1", Options(encryption="none"))
    script(made, "CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(50000))")
    create(made, "full")
    with made.runtime() as runtime:
        request = backup_request(runtime, database="", strategy=Strategy.INCREMENTAL)
        steps = create_backup(
            request,
            repository=runtime.repository(request.database.storage),
            site=runtime.site,
            fan=runtime.fan(),
            check_lease=lambda: None,
        )
        while not next(steps).note.startswith("the database is copied"):
            pass
        script(made, "PRAGMA page_size = 8192; VACUUM")
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                done: Finished = stop.value
                break
    assert (done.backup.parent_id, done.backup.page_size) == (None, 8192)
    restore_to(made, done.backup.id, tmp_path / "back.db")


def test_each_way_to_a_state_is_a_state_source(sandbox: Sandbox, recorder: Recorder, parent: Backup, tmp_path: Path) -> None:
    captured = found(sandbox, tmp_path)
    assert isinstance(captured, CapturedCommits)
    with sandbox.runtime() as runtime, ExitStack() as staging:
        request = backup_request(runtime, database="", strategy=Strategy.INCREMENTAL)
        source = inspect(sandbox.database)
        read = LiveDatabase(source=source, database=request.database, storage="local", reason="a test", site=runtime.site)
        ways: list[StateSource] = [captured, read]
        for way in ways:
            steps = way.stage(tmp_path, staging)
            while True:
                try:
                    next(steps)
                except StopIteration as stop:
                    state = stop.value
                    break
            assert state.staged.n_pages == recorder.captured[-1].commit.n_pages
            assert dict(state.examine().row_counts)["t"] > 0


def script(sandbox: Sandbox, sql: str) -> None:
    """Run SQL by another SQLite, in a process of its own."""
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2]).close()"
    subprocess.run([sys.executable, "-c", code, str(sandbox.database), sql], check=True, timeout=60)
