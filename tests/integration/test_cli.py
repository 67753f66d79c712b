"""The command line against real brokers and workers."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from continuum_tasks.host.jobs import Job, open_jobs
from continuum_tasks.sample.change import change
from continuum_tasks.sample.generate import SampleSpec, generate
from continuum_tasks.tasks.client import broker_url_of
from tests.support.cli import command, start
from tests.support.processes import until
from tests.support.sandbox import Options, Sandbox, make
from tests.support.stack import live_pools, server, stack


def rows(sandbox: Sandbox) -> list[Job]:
    """Return the rows of whole pieces of work, by id."""
    jobs = open_jobs(sandbox.config.state_dir / "metadata.db")
    try:
        return [job for job in jobs._jobs("WHERE parent_id IS NULL ORDER BY created_at")]
    finally:
        jobs.close()


def job(sandbox: Sandbox, job_id: str) -> Job:
    return next(row for row in rows(sandbox) if row.id == job_id)


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = make(tmp_path / "host")
    generate(made.database, SampleSpec(size_bytes=1 << 20))
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One installation with everything running."""
    # A job that waits for a lock which a test holds must still wait when a busy machine lets the test go on.
    made = make(tmp_path_factory.mktemp("cli") / "host", Options(busy_seconds=120))
    generate(made.database, SampleSpec(size_bytes=4 << 20))
    with stack(made.config):
        yield made


def test_create_verify_and_restore_are_done_by_workers(served: Sandbox, tmp_path: Path) -> None:
    full = command(served, "backup", "create", "--strategy", "full", "--no-local", "--format", "json")
    assert full.code == 0, full.err
    assert full.err == ""
    before = served.database.read_bytes()
    change(served.database, fraction=0.01, seed=1)
    made = command(served, "backup", "create", "--strategy", "incremental", "--no-local")
    assert made.code == 0 and f"builds on {full.json['backup_id']}" in made.out
    assert "incremental backup of main: " in made.err
    ids = [backup["backup_id"] for backup in command(served, "backup", "list", "--format", "json").json]
    verified = command(served, "backup", "verify", *ids, "--no-local", "--format", "json")
    assert [verdict["passed"] for verdict in verified.json] == [True] * len(ids)
    restored = command(served, "backup", "restore", ids[1], "--target", str(tmp_path / "r.db"), "--verify", "--no-local")
    assert restored.code == 0, restored.err
    assert (tmp_path / "r.db").read_bytes()[100:] == before[100:]
    kinds = {row.kind for row in rows(served) if row.state == "done" and row.claimed_by.startswith("h1/")}
    assert kinds >= {"create_backup", "verify_backup", "restore_backup"}


def test_an_error_of_a_worker_keeps_its_message_hint_and_exit_code(served: Sandbox, tmp_path: Path) -> None:
    command(served, "backup", "create", "--strategy", "full")
    (tmp_path / "there.db").write_bytes(b"as it was")
    done = command(
        served, "backup", "restore", "--latest", "--target", str(tmp_path / "there.db"), "--no-local", "--format=json"
    )
    assert done.code == 9
    assert done.json["error"]["name"] == "TargetExists" and "--overwrite" in done.json["error"]["hint"]
    assert "hint: give --overwrite" in done.err
    assert (tmp_path / "there.db").read_bytes() == b"as it was"


def test_a_relative_target_is_taken_from_where_the_command_runs(served: Sandbox, tmp_path: Path) -> None:
    command(served, "backup", "create", "--strategy", "full")
    command(served, "backup", "restore", "--latest", "--target", "here.db", "--no-local", cwd=tmp_path).ok()
    assert (tmp_path / "here.db").exists()


def test_no_wait_names_a_job_that_then_ends(served: Sandbox) -> None:
    done = command(served, "backup", "create", "--strategy", "full", "--no-wait", "--priority", "high", "--format", "json")
    assert done.json["state"] == "queued"
    assert job(served, done.json["job_id"]).priority == 0
    assert until(lambda: job(served, done.json["job_id"]).state == "done")


def test_ctrl_c_ends_the_following_and_not_the_job(served: Sandbox) -> None:
    with closing(sqlite3.connect(served.database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")  # so that the job cannot end before the signal
        process = start(served, "backup", "create", "--strategy", "full", "--no-local")
        assert process.stderr is not None
        assert "full backup of main: " in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        connection.execute("ROLLBACK")
    job_id = next(line.split()[1] for line in err.splitlines() if line.startswith("job "))
    assert "goes on; `continuum backup list` shows the backup" in err
    assert until(lambda: job(served, job_id).state == "done", seconds=180)


def test_a_worker_that_is_killed_while_it_works_is_replaced_and_the_command_succeeds(served: Sandbox) -> None:
    with closing(sqlite3.connect(served.database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        process = start(served, "backup", "create", "--strategy", "full", "--no-local", "--format", "json")
        assert until(lambda: any(row.state == "running" for row in rows(served)))
        holder = next(row.claimed_by for row in rows(served) if row.state == "running")
        psutil.Process(int(holder.split("/")[-2])).kill()
        connection.execute("ROLLBACK")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert json.loads(out)["status"] == "completed"


def test_a_worker_that_dies_in_every_attempt_ends_in_a_failure(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUUM_FAILPOINTS", "create.before_manifest=kill")
    with stack(sandbox.config):
        done = command(sandbox, "backup", "create", "--strategy", "full", "--no-local", "--format", "json")
        assert done.code == 11, done.err
        assert done.json["error"]["name"] == "JobFailed" and "3 of 3 attempts" in done.json["error"]["message"]
        assert command(sandbox, "backup", "list", "--format", "json").json == []
        monkeypatch.delenv("CONTINUUM_FAILPOINTS")
        assert command(sandbox, "backup", "create", "--strategy", "full", "--local").code == 0


def test_a_broker_that_may_evict_is_refused_unless_work_is_local(sandbox: Sandbox) -> None:
    with server(sandbox.config, "maxmemory-policy allkeys-lru"):
        conf = sandbox.directory / "backup.conf"
        conf.write_text(conf.read_text() + f"\n[broker]\nurl = {broker_url_of(sandbox.config)}\n")
        refused = command(sandbox, "backup", "create", "--strategy", "full")
        assert refused.code == 11
        assert "maxmemory-policy is allkeys-lru" in refused.err and "--local works without it" in refused.err
        assert command(sandbox, "backup", "create", "--strategy", "full", "--local").code == 0


def test_a_pool_that_reports_without_a_broker_is_no_worker(sandbox: Sandbox) -> None:
    with sandbox.runtime() as runtime:
        runtime.jobs.beat("agent", "agent.h1", host="h1", now=runtime.site.clock.now())
        assert command(sandbox, "backup", "create", "--strategy", "full", "--no-local").code == 11
        done = command(sandbox, "backup", "create", "--strategy", "full")
    assert done.code == 0 and "no worker is reachable" in done.err and rows(sandbox) == []


def test_up_becomes_the_stack_and_ctrl_c_ends_it(sandbox: Sandbox) -> None:
    process = start(sandbox, "up")
    try:
        assert until(lambda: {"agent", "transfer", "verify", "control"} <= set(live_pools(sandbox.config)), seconds=180)
        assert "workers.stack" in " ".join(psutil.Process(process.pid).cmdline())
        assert command(sandbox, "backup", "create", "--strategy", "full", "--no-local").code == 0
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=180)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "stopped"


def test_a_local_command_that_is_killed_leaves_nothing_listed_and_the_next_one_works(sandbox: Sandbox) -> None:
    process = start(sandbox, "backup", "create", "--strategy", "full", "--local")
    process.communicate(timeout=180)
    words = ("backup", "create", "--strategy", "full", "--local")
    killed = command(sandbox, *words, CONTINUUM_FAILPOINTS="create.before_manifest=kill")
    assert killed.code == -signal.SIGKILL
    assert len(command(sandbox, "backup", "list", "--format", "json").json) == 1
    assert command(sandbox, "backup", "create", "--strategy", "incremental", "--local", "--format", "json").json["parent_id"]
