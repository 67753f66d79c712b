"""`continuum up` as one process tree: how it comes up, heals, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from continuum_tasks.config import Config
from continuum_tasks.errors import BrokerUnsafe, ConfigError, LockError
from continuum_tasks.tasks.client import KEY_PREFIX, broker_url_of, check_broker, client_app, embedded, ring
from tests.support.processes import ROOT, environment, such, until
from tests.support.stack import Stack, a_job, live_pools, server, stack, write_config_files

POOLS = {"agent": "agent.h1", "transfer": "transfer.h1", "verify": "verify.h1", "control": "control.h1", "beat": ""}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return write_config_files(tmp_path / "c")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, Stack]]:
    config = write_config_files(tmp_path_factory.mktemp("up") / "c")
    with stack(config) as started:
        yield config, started


def gone(processes: list[psutil.Process]) -> bool:
    return until(lambda: not such(processes, lambda _: True))


def command_lines(processes: list[psutil.Process]) -> dict[int, str]:
    return {p.pid: " ".join(p.cmdline()) for p in processes}


def broker_pid(running: Stack) -> int | None:
    servers = such(running.family(), lambda p: p.name().endswith("-server"))
    return servers[0].pid if servers else None


def task_processes(running: Stack, main: int) -> list[psutil.Process]:
    return such(running.family(), lambda p: p.ppid() == main)


def up(config: Config) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workers.stack", "--config-dir", str(config.directory)]
    return subprocess.run(command, cwd=ROOT, env=environment(config), capture_output=True, text=True, timeout=180)


def test_every_component_says_a_line_and_ready_comes_last(running: tuple[Config, Stack]) -> None:
    _, started = running
    names = [line.partition(":")[0] for line in started.lines]
    assert names[0] == "broker" and names[-1] == "ready"
    assert sorted(names[1:-1]) == ["agent", "beat", "capture", "control", "flower", "transfer", "verify"]
    assert "capture: nothing to capture" in started.lines


def test_every_pool_and_beat_reports_with_the_queue_it_serves(running: tuple[Config, Stack]) -> None:
    config, started = running
    found = live_pools(config)
    assert {name: pool.queue for name, pool in found.items()} == POOLS
    assert {pool.pid for pool in found.values()} <= {p.pid for p in started.family()}
    seen = found["agent"].seen_at
    assert until(lambda: any(pool.seen_at > seen for name, pool in live_pools(config).items() if name == "agent"))


def test_a_command_finds_the_broker_by_the_state_directory_alone(running: tuple[Config, Stack]) -> None:
    config, _ = running
    check_broker(broker_url_of(config))


def test_no_command_line_carries_the_password(running: tuple[Config, Stack]) -> None:
    config, started = running
    password = embedded(config.state_dir).password.read_text()
    lines = command_lines(started.family())
    assert len(lines) >= 11
    assert not [line for line in lines.values() if password in line]


def test_no_task_process_inherits_a_connection_to_the_metadata(running: tuple[Config, Stack]) -> None:
    """Processes that have run no task, started before the first heartbeat and, as a replacement, after many."""
    config, started = running
    main = live_pools(config)["transfer"].pid
    first = task_processes(started, main)
    first[0].kill()
    assert until(lambda: len(task_processes(started, main)) == 2 and first[0] not in task_processes(started, main))
    opened = [file.path for p in task_processes(started, main) for file in p.open_files()]
    assert not [path for path in opened if Path(path).name.startswith("metadata.db")]


def test_flower_shows_itself_to_this_machine_and_changes_nothing(running: tuple[Config, Stack]) -> None:
    _, started = running
    (line,) = [line for line in started.lines if line.startswith("flower: http://127.0.0.1:")]
    base = line.removeprefix("flower: ")
    with urllib.request.urlopen(base, timeout=10) as page:
        assert page.status == 200
    enqueue = urllib.request.Request(f"{base}/api/task/send-task/continuum.health_check", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(enqueue, timeout=10)
    assert refused.value.code in (401, 403)
    refused.value.close()


def test_a_stack_is_ready_without_flower_when_the_port_asked_for_is_taken(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with stack(config, "--flower-port", str(port)) as started:
            assert started.lines[-1] == "ready"
            assert [line for line in started.lines if line.startswith("flower: exit status 1, restarting")]
            assert set(live_pools(config)) == set(POOLS)


def test_the_log_holds_one_json_object_a_line_from_every_pool(running: tuple[Config, Stack]) -> None:
    config, _ = running
    lines = [json.loads(line) for line in config.log_file.read_text().splitlines()]
    assert {"at", "level", "process", "logger", "event"} <= set(lines[0])
    ready = {line["event"].partition("@")[0] for line in lines if line["event"].endswith("@h1 ready.")}
    assert ready == {"agent", "transfer", "verify", "control"}
    assert stat.S_IMODE(config.log_file.stat().st_mode) == 0o600


def test_a_second_stack_on_the_same_state_directory_is_refused(running: tuple[Config, Stack]) -> None:
    config, _ = running
    second = up(config)
    assert second.returncode == LockError.exit_code
    assert "another `continuum up`" in second.stderr and "hint: " in second.stderr
    check_broker(broker_url_of(config))


def test_a_killed_pool_comes_back(running: tuple[Config, Stack]) -> None:
    config, _ = running
    before = live_pools(config)["verify"].pid
    psutil.Process(before).kill()

    def is_another() -> bool:
        pool = live_pools(config).get("verify")
        return pool is not None and pool.pid != before

    assert until(is_another)


def test_a_killed_broker_comes_back_with_its_queues_and_the_pools_return_to_it(running: tuple[Config, Stack]) -> None:
    config, started = running
    app = client_app(config)
    for n in range(20):
        ring(app, "continuum.reconcile", a_job(f"job-{n}", priority=3), queue="agent.elsewhere")
    first = broker_pid(started)
    assert first is not None
    psutil.Process(first).kill()
    assert until(lambda: broker_pid(started) not in (None, first))
    assert until(lambda: _length(config, "agent.elsewhere") == 20)
    assert until(lambda: set(live_pools(config)) == set(POOLS))


def test_the_pools_report_again_after_the_metadata_was_deleted_under_them(running: tuple[Config, Stack]) -> None:
    config, _ = running
    for suffix in ("", "-wal", "-shm"):
        (config.state_dir / f"metadata.db{suffix}").unlink(missing_ok=True)
    assert until(lambda: set(live_pools(config)) == set(POOLS))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_ends_everything_and_leaves_nothing(config: Config, sent: signal.Signals) -> None:
    with stack(config) as started:
        family = started.family()
        started.process.send_signal(sent)
        out, _ = started.process.communicate(timeout=90)
        assert started.process.returncode == 0
        # Flower holds nothing; now and then it does not end by itself, and then it is killed as everything would be.
        assert out.splitlines()[-1] == "stopped" and "killed" not in out.replace("flower: killed", "")
        assert gone(family)
    assert not Path(embedded(config.state_dir).socket_record.read_text()).exists()
    assert live_pools(config) == {}


def test_a_killed_stack_leaves_no_process_and_the_next_one_starts(config: Config) -> None:
    with stack(config) as started:
        family = started.family()
        assert len(family) >= 11
        started.process.kill()
        assert gone(family)
    with stack(config) as again:
        assert again.lines[-1] == "ready"


def test_a_configured_broker_that_may_evict_ends_the_stack_before_anything_starts(config: Config, tmp_path: Path) -> None:
    with server(config, "maxmemory-policy allkeys-lru"):
        other = write_config_files(tmp_path / "other", url=broker_url_of(config))
        done = up(other)
    assert done.returncode == BrokerUnsafe.exit_code
    assert "maxmemory-policy noeviction" in done.stderr
    assert not list((other.state_dir / "logs").glob("*")) if (other.state_dir / "logs").exists() else True


def test_a_configured_broker_is_used_and_none_is_embedded(config: Config, tmp_path: Path) -> None:
    with server(config):
        other = write_config_files(tmp_path / "other", url=broker_url_of(config))
        with stack(other) as started:
            assert started.lines[0] == "broker: configured, safe, ready"
            assert not [p for p in started.family() if "broker.conf" in " ".join(p.cmdline())]
            assert set(live_pools(other)) == set(POOLS)


def test_a_wrong_configuration_ends_with_its_own_exit_code(config: Config) -> None:
    (config.directory / "backup.conf").write_text((config.directory / "backup.conf").read_text() + "no_such_key = 1\n")
    done = up(config)
    assert done.returncode == ConfigError.exit_code
    assert "no_such_key" in done.stderr


def _length(config: Config, queue: str) -> int:
    files = embedded(config.state_dir)
    with redis.Redis(unix_socket_path=files.socket_record.read_text(), db=1, password=files.password.read_text()) as client:
        try:
            return int(client.llen(f"{KEY_PREFIX}{queue}\x06\x163"))
        except redis.ConnectionError:
            return -1
