"""The broker is a doorbell: what it may lose, repeat or refuse, shown with a real server and real workers."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from continuum_tasks.config import Config
from continuum_tasks.errors import BrokerUnreachable, BrokerUnsafe, LockError
from continuum_tasks.host.jobs import Jobs, JobState, open_jobs
from continuum_tasks.tasks.client import KEY_PREFIX, broker_url_of, check_broker, client_app, embedded, ring
from tests.support.processes import ROOT, environment, until
from tests.support.stack import a_job, live_pools, server, worker, write_config_files
from workers import broker

QUEUE = "agent.h1"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return write_config_files(tmp_path / "c")


@pytest.fixture
def jobs(config: Config) -> Iterator[Jobs]:
    opened = open_jobs(config.state_dir / "metadata.db")
    yield opened
    opened.close()


def ran(config: Config) -> list[str]:
    path = config.state_dir / "ran"
    return path.read_text().splitlines() if path.exists() else []


def now() -> datetime:
    return datetime.now(UTC)


def ring_row(config: Config, job_id: str, *, times: int = 1, priority: int = 3) -> None:
    app = client_app(config)
    for _ in range(times):
        ring(app, "test.by_row", a_job(job_id, priority=priority), queue=QUEUE)


def raw_client(config: Config, password: str | None) -> redis.Redis:
    path = embedded(config.state_dir).socket_record.read_text()
    return redis.Redis(unix_socket_path=path, db=1, password=password, retry=Retry(NoBackoff(), 0))


def test_the_embedded_server_is_private_and_keeps_what_it_acknowledged(config: Config) -> None:
    files = embedded(config.state_dir)
    with server(config) as process:
        check_broker(broker_url_of(config))
        assert not [c for c in psutil.Process(process.pid).net_connections() if c.family in (socket.AF_INET, socket.AF_INET6)]
        private = [files.password, files.socket_record, files.directory / "broker.conf", Path(files.socket_record.read_text())]
        assert {stat.S_IMODE(p.stat().st_mode) for p in private} == {0o600}
        with raw_client(config, None) as stranger, pytest.raises(redis.AuthenticationError, match="required"):
            stranger.ping()
        ring(client_app(config), "test.by_row", a_job("a", priority=0), queue=QUEUE)
        process.kill()
    with server(config), raw_client(config, files.password.read_text()) as client:
        assert client.llen(f"{KEY_PREFIX}{QUEUE}") == 1


def test_a_ring_carries_a_job_id_and_nothing_else(config: Config) -> None:
    with server(config), raw_client(config, embedded(config.state_dir).password.read_text()) as client:
        ring(client_app(config), "test.by_row", a_job("job-1", priority=0), queue=QUEUE)
        (message,) = client.lrange(f"{KEY_PREFIX}{QUEUE}", 0, -1)
        assert b"application/json" in message and b'"argsrepr": "[\'job-1\']"' in message


def test_two_servers_on_one_state_directory_are_refused(config: Config) -> None:
    with server(config), pytest.raises(LockError, match="another `continuum up`"), broker.only_stack(config.state_dir):
        pass


def test_a_state_directory_too_deep_for_a_socket_works_all_the_same(tmp_path: Path) -> None:
    config = write_config_files(tmp_path / ("d" * 60) / ("e" * 60) / "c")
    with server(config):
        check_broker(broker_url_of(config))
        where = Path(embedded(config.state_dir).socket_record.read_text())
        assert len(os.fsencode(where)) <= 107
        assert stat.S_IMODE(where.parent.stat().st_mode) == 0o700
    with server(config):
        assert Path(embedded(config.state_dir).socket_record.read_text()) == where
    broker.tidy(config.state_dir)
    assert not where.parent.exists()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_evict_is_refused_with_the_remedy(config: Config, policy: str) -> None:
    with server(config, f"maxmemory-policy {policy}"):
        with pytest.raises(BrokerUnsafe, match=policy) as caught:
            check_broker(broker_url_of(config))
        assert "maxmemory-policy noeviction" in caught.value.hint
        with worker(config) as process:
            assert process.wait(timeout=60) == BrokerUnsafe.exit_code
        assert live_pools(config) == {}


def test_a_broker_that_accepts_and_never_answers_is_unreachable_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable):
            check_broker(f"redis://user:secret@127.0.0.1:{silent.getsockname()[1]}/0")
        assert time.monotonic() - began < 30


def test_messages_about_a_broker_never_show_its_password() -> None:
    with pytest.raises(BrokerUnreachable) as caught:
        check_broker("redis://user:secret@127.0.0.1:1/0")
    assert "secret" not in str(caught.value) and "127.0.0.1:1" in caught.value.message


def test_without_any_broker_the_error_names_the_command_that_starts_one(config: Config) -> None:
    with pytest.raises(BrokerUnreachable) as caught:
        broker_url_of(config)
    assert "continuum up" in caught.value.hint


def test_a_ring_with_the_broker_gone_says_so(config: Config) -> None:
    with server(config):
        app = client_app(config)
    with pytest.raises(BrokerUnreachable, match=QUEUE):
        ring(app, "test.by_row", a_job("a", priority=0), queue=QUEUE)


def test_a_job_rung_five_times_runs_once(config: Config, jobs: Jobs) -> None:
    jobs.add("k", {"seconds": 0.5}, id="a", now=now())
    with server(config), worker(config, "-c", "3"):
        ring_row(config, "a", times=5)
        assert until(lambda: ran(config).count("refused a") == 4 and "end a 1" in ran(config))
        ring_row(config, "a")
        assert until(lambda: ran(config).count("refused a") == 5)
    assert [line for line in ran(config) if line.startswith("begin")] == ["begin a 1"]


def test_the_job_of_a_killed_worker_is_taken_by_the_next_one(config: Config, jobs: Jobs) -> None:
    jobs.add("k", {"seconds": 6}, id="a", now=now())
    with server(config):
        with worker(config) as first:
            ring_row(config, "a")
            assert until(lambda: ran(config) == ["begin a 1"])
            (task_process,) = psutil.Process(first.pid).children()
            first.kill()
            assert until(lambda: not task_process.is_running())
        assert [j.id for j in jobs.due(now())] == ["a"]
        with worker(config):
            ring_row(config, "a")
            assert until(lambda: "end a 2" in ran(config))
    job = jobs.get("a")
    assert job is not None and (job.state, job.attempts, job.result) == (JobState.DONE, 2, {"token": 2})


def test_a_task_that_kills_its_process_is_redelivered_only_to_the_attempt_cap(config: Config, jobs: Jobs) -> None:
    jobs.add("k", {"die": True}, id="a", max_attempts=3, now=now())
    with server(config), worker(config):
        ring_row(config, "a")
        assert until(lambda: "refused a" in ran(config))
        assert [line for line in ran(config) if line.startswith("begin")] == ["begin a 1", "begin a 2", "begin a 3"]
    (gone,) = jobs.abandon(now())
    assert gone.state is JobState.FAILED


def test_a_restore_rung_last_runs_before_the_waiting_backups(config: Config, jobs: Jobs) -> None:
    for job_id in ("b1", "b2", "b3", "restore"):
        jobs.add("k", {"seconds": 0.2}, id=job_id, now=now())
    with server(config):
        for job_id in ("b1", "b2", "b3"):
            ring_row(config, job_id, priority=3)
        ring_row(config, "restore", priority=0)
        with worker(config):
            assert until(lambda: len([x for x in ran(config) if x.startswith("end")]) == 4)
    assert ran(config)[0] == "begin restore 1"


def test_a_task_that_outlives_the_visibility_timeout_is_delivered_once(config: Config) -> None:
    """The visibility timeout is 6 s here and the task takes 16: without the refresher it ran three times."""
    with server(config), worker(config, "-c", "3"):
        client_app(config).send_task("test.plain", args=["long-16"], queue=QUEUE)
        assert until(lambda: "end long-16" in ran(config))
        time.sleep(1)
    assert ran(config) == ["begin long-16", "end long-16"]


def test_a_worker_that_is_asked_to_stop_lets_a_short_task_end(config: Config, jobs: Jobs) -> None:
    jobs.add("k", {"seconds": 2}, id="a", now=now())
    with server(config), worker(config) as process:
        ring_row(config, "a")
        assert until(lambda: ran(config) == ["begin a 1"])
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert ran(config) == ["begin a 1", "end a 1"]
    assert live_pools(config) == {}


def test_a_queue_survives_a_worker_that_meets_a_restarted_broker(config: Config, jobs: Jobs) -> None:
    for n in range(6):
        jobs.add("k", {"seconds": 0.5}, id=f"a{n}", now=now())
    with server(config) as first, worker(config) as process:
        for n in range(6):
            ring_row(config, f"a{n}")
        assert until(lambda: "begin a0 1" in ran(config))
        first.kill()
        first.wait()
        again = subprocess.Popen(
            [broker.find_server(), str(embedded(config.state_dir).directory / "broker.conf")], stdout=subprocess.DEVNULL
        )
        try:
            assert until(lambda: len([x for x in ran(config) if x.startswith("end")]) == 6)
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(timeout=60)
            again.kill()
            again.wait()
    assert len([x for x in ran(config) if x.startswith("begin")]) == 6


def test_importing_the_worker_app_reads_and_opens_nothing(tmp_path: Path) -> None:
    code = "import workers.app, sys, os; sys.exit(len([f for f in os.listdir('/proc/self/fd') if int(f) > 3]))"
    missing = {"CONTINUUM_CONFIG_DIR": str(tmp_path / "nowhere")}
    config = write_config_files(tmp_path / "c")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**environment(config), **missing}, timeout=120)
    assert done.returncode == 0
