"""What capture has others do: by a worker where one serves, else by a process of its own, never by both. Real processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from continuum_tasks.capture.follow_ups import JobEnd
from continuum_tasks.config import load_config
from continuum_tasks.host.job_kinds import CreateBackup, ProveCapture
from continuum_tasks.host.jobs import Job, JobState
from continuum_tasks.model import Strategy
from continuum_tasks.process import pid_of, worker_id
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.perform_row import RowReporter, claim_row, perform_row
from tests.support.processes import environment, until
from tests.support.sandbox import Sandbox, listed, make
from tests.support.stack import server
from workers.capture import runner_of
from workers.follow_ups import LOG, ChildRunner

WORK = CreateBackup(database="main", strategy=Strategy.INCREMENTAL, storage="local")
PATIENT = 120.0


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "h1")
    path = made.directory / "backup.conf"
    path.write_text(path.read_text() + "min_interval = 1h\n")
    with closing(sqlite3.connect(made.database)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
    return replace(made, config=load_config(made.directory))


@pytest.fixture
def runtime(sandbox: Sandbox) -> Iterator[Runtime]:
    with sandbox.runtime() as opened:
        yield opened


@pytest.fixture
def runner(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildRunner]:
    for name, value in environment(runtime.config).items():
        monkeypatch.setenv(name, value)
    made = runner_of(runtime, "main")
    yield made
    made.close()


def end_of(runner: ChildRunner) -> JobEnd:
    found: list[JobEnd] = []

    def ended() -> bool:
        end = runner.ended()
        found.extend([] if end is None else [end])
        return bool(found)

    assert until(ended, seconds=PATIENT)
    assert not runner.busy and runner.ended() is None
    return found[0]


def rows(runtime: Runtime) -> list[Job]:
    there = [*runtime.jobs.unfinished(), *runtime.jobs.ended("create_backup", database="main", limit=10)]
    return [job for job in there if job.parent_id is None]


def test_without_a_worker_the_child_does_the_job_and_its_row_says_what_came_of_it(
    sandbox: Sandbox, runtime: Runtime, runner: ChildRunner
) -> None:
    runner.start(WORK, force=True)
    assert runner.busy and runner.ended() is None
    end = end_of(runner)
    (backup,) = listed(sandbox)
    assert end == JobEnd(backup=runtime.catalog.find(backup.id, storage="local"))
    (job,) = rows(runtime)
    assert (job.state, job.attempts, job.args["strategy"]) == (JobState.DONE, 1, "incremental")
    assert pid_of(job.claimed_by) not in (0, pid_of(worker_id("h1")))


def test_a_backup_is_declined_where_one_was_made_just_now_but_not_the_one_that_follows_a_hole(
    sandbox: Sandbox, runtime: Runtime, runner: ChildRunner
) -> None:
    runner.start(WORK, force=False)
    assert end_of(runner).backup is not None
    runner.start(WORK, force=False)
    declined = end_of(runner)
    assert declined.backup is None and "no backup made" in declined.error and "min_interval is" in declined.error
    assert len(rows(runtime)) == 1, "what was declined is no failed run"
    runner.start(WORK, force=True)
    assert end_of(runner).backup is not None
    assert len(listed(sandbox)) == 2


def test_a_worker_that_serves_the_queue_does_the_job_and_the_child_waits_for_it(
    sandbox: Sandbox, runtime: Runtime, runner: ChildRunner
) -> None:
    with server(runtime.config):
        runtime.jobs.beat("agent", "agent.h1", host="h1", now=datetime.now(UTC))
        runner.start(WORK, force=True)

        def rung() -> bool:
            runtime.jobs.beat("agent", "agent.h1", host="h1", now=datetime.now(UTC))
            return any(job.rung_at is not None for job in runtime.jobs.unfinished())

        assert until(rung, seconds=PATIENT)
        (queued,) = runtime.jobs.unfinished()
        claimed = claim_row(runtime, queued.id, kind="create_backup")
        assert claimed is not None
        runtime.jobs.leave("agent", host="h1")  # from here on the child would do it, were the row not claimed
        assert runner.ended() is None
        perform_row(claimed, runtime, fan=runtime.fan(), report=RowReporter(claimed, runtime).report)
        end = end_of(runner)
    (backup,) = listed(sandbox)
    assert end.backup is not None and end.backup.id == backup.id
    (job,) = rows(runtime)
    assert (job.attempts, job.claimed_by) == (1, worker_id("h1"))


def test_a_job_that_no_worker_took_before_its_pool_ended_is_done_by_the_child(
    sandbox: Sandbox, runtime: Runtime, runner: ChildRunner
) -> None:
    with server(runtime.config):
        runtime.jobs.beat("agent", "agent.h1", host="h1", now=datetime.now(UTC))
        runner.start(WORK, force=True)
        assert end_of(runner).backup is not None  # the pool falls silent meanwhile
    assert len(listed(sandbox)) == 1


def test_a_broker_that_is_away_does_not_keep_the_job_from_being_done(runtime: Runtime, runner: ChildRunner) -> None:
    runtime.jobs.beat("agent", "agent.h1", host="h1", now=datetime.now(UTC))
    runner.start(WORK, force=True)
    assert end_of(runner).backup is not None


def test_why_a_job_failed_is_told_by_its_row(sandbox: Sandbox, runtime: Runtime, runner: ChildRunner) -> None:
    sandbox.database.write_bytes(b"no database at all" * 1000)
    runner.start(WORK, force=True)
    end = end_of(runner)
    (job,) = rows(runtime)
    assert job.state is JobState.FAILED and job.error is not None
    assert (end.backup, end.error) == (None, job.error.message)


def test_why_a_child_failed_before_there_was_a_row_is_told_by_its_last_line(
    sandbox: Sandbox, runtime: Runtime, runner: ChildRunner
) -> None:
    (sandbox.directory / "storage.conf").write_text("[storage:local]\ntype = floppy\n")
    runner.start(WORK, force=True)
    assert "floppy" in end_of(runner).error
    assert rows(runtime) == []


def test_a_child_that_is_ended_with_the_capture_leaves_no_job_that_somebody_does_later(
    sandbox: Sandbox, runtime: Runtime, runner: ChildRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTINUUM_FAILPOINTS", "create.locked=sleep:600")
    slow = runner_of(runtime, "main")
    slow.start(WORK, force=True)
    assert until(lambda: any(job.state is JobState.RUNNING for job in runtime.jobs.unfinished()), seconds=PATIENT)
    slow.close()
    (job,) = rows(runtime)
    assert job.state is JobState.FAILED and job.error is not None
    assert "the capture that needed it ended" in job.error.message
    assert runtime.jobs.due(datetime.now(UTC)) == ()


def _await_rung(runtime: Runtime, queue: str) -> Job:
    """Let a pool count as serving until the child has told it of the job; returns that."""
    pool = queue.partition(".")[0]

    def rung() -> bool:
        runtime.jobs.beat(pool, queue, host="h1", now=datetime.now(UTC))
        return any(job.rung_at is not None for job in runtime.jobs.unfinished())

    assert until(rung, seconds=PATIENT)
    (job,) = runtime.jobs.unfinished()
    return job


def test_a_child_that_is_ended_while_its_job_waits_for_a_worker_leaves_no_job_that_somebody_does_later(
    runtime: Runtime, runner: ChildRunner
) -> None:
    with server(runtime.config):
        runtime.jobs.beat("agent", "agent.h1", host="h1", now=datetime.now(UTC))
        runner.start(WORK, force=True)
        waiting = _await_rung(runtime, "agent.h1")
        assert waiting.state is JobState.QUEUED
        runner.close()
    (job,) = rows(runtime)
    assert job.state is JobState.FAILED and job.error is not None
    assert "the capture that needed it ended" in job.error.message
    assert claim_row(runtime, job.id, kind="create_backup") is None


def test_a_worker_that_has_the_job_goes_on_when_the_child_is_ended(runtime: Runtime, runner: ChildRunner) -> None:
    with server(runtime.config):
        runtime.jobs.beat("agent", "agent.h1", host="h1", now=datetime.now(UTC))
        runner.start(WORK, force=True)
        claimed = claim_row(runtime, _await_rung(runtime, "agent.h1").id, kind="create_backup")
        assert claimed is not None
        runner.close()
        perform_row(claimed, runtime, fan=runtime.fan(), report=RowReporter(claimed, runtime).report)
    (job,) = rows(runtime)
    assert job.state is JobState.DONE


def test_a_machine_that_only_helps_to_verify_leaves_a_proof_to_the_host_of_the_database(
    sandbox: Sandbox, tmp_path: Path, runtime: Runtime, runner: ChildRunner
) -> None:
    """It serves the same queue under the same name, with a `state_dir` of its own."""
    helping = make(tmp_path / "helper", store=sandbox.store)
    with server(runtime.config):
        runtime.jobs.beat("verify", "verify.h1", host="h1", now=datetime.now(UTC))
        runner.start(ProveCapture(database="main", storage="local"), force=False)
        job = _await_rung(runtime, "verify.h1")
        with helping.runtime() as elsewhere:
            assert claim_row(elsewhere, job.id, kind="prove_capture") is None
            assert elsewhere.jobs.unfinished() == ()
        assert claim_row(runtime, job.id, kind="prove_capture") is not None
        runner.close()


def test_a_child_that_was_killed_is_a_failure_and_capture_may_ask_again(
    sandbox: Sandbox, runtime: Runtime, runner: ChildRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTINUUM_FAILPOINTS", "create.staged=kill")
    mortal = runner_of(runtime, "main")
    mortal.start(WORK, force=True)
    end = end_of(mortal)
    assert end.backup is None and end.error == "exit code -9"
    runner.start(WORK, force=True)
    assert end_of(runner).backup is not None
    assert (sandbox.config.state_dir / "capture" / "main" / LOG).stat().st_mode & 0o777 == 0o600
