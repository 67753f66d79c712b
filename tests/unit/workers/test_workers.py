"""Names, settings and the timetable as data: they agree with each other and with what was measured."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery

from beat_schedule import TIMETABLE, beat_schedule
from continuum_tasks.config import BrokerSettings, Config, load_config
from continuum_tasks.errors import ConfigError
from continuum_tasks.host import routing
from continuum_tasks.host.job_kinds import CREATE_BACKUP, FETCH_CHUNK, RESTORE_BACKUP, SEAL_CHUNK, VERIFY_BACKUP
from continuum_tasks.launch import PACKAGE
from continuum_tasks.tasks.client import address, broker_url_of, client_settings, embedded, result_url
from workers import broker, pools, settings

TASKS = tuple(settings.task_queues("h"))
CRONTAB_SECONDS = {"health-check": 300.0, "write-report": 7 * 86_400.0}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "backup.conf").write_text(f"[continuum]\nhost = h1\n\n[database:main]\npath = {tmp_path}/memory.db\n")
    (tmp_path / "storage.conf").write_text(f"[storage:local]\ntype = local\npath = {tmp_path}/store\n")
    (tmp_path / "retention.conf").write_text("")
    return replace(load_config(tmp_path), broker=BrokerSettings(url="redis://u:p@broker.example:6379/2"))


def test_restores_outrank_backups_and_backups_outrank_verification() -> None:
    order = [kind.priority for kind in (RESTORE_BACKUP, CREATE_BACKUP, VERIFY_BACKUP)]
    assert order == sorted(order) and len(set(order)) == 3
    assert FETCH_CHUNK.priority < SEAL_CHUNK.priority


def test_work_goes_to_the_host_that_has_the_database_and_sees_the_storage() -> None:
    assert all(queue.endswith(".db7") for queue in settings.task_queues("db7").values())


def test_every_task_goes_to_a_queue_that_some_pool_of_the_host_serves(config: Config) -> None:
    served = {queue for pool in pools.pools(config) for queue in pool.queue.split(",")}
    assert set(settings.task_queues("h1").values()) == served
    assert {queue.name for queue in settings.queues("h1")} == served
    assert len({queue.routing_key for queue in settings.queues("h1")}) == len(served)


def test_the_timetable_and_the_routes_agree() -> None:
    for entry in TIMETABLE:
        assert entry.queue.format(host="h1") == settings.task_queues("h1")[entry.task]
        assert entry.why


def test_a_timed_message_is_worthless_before_its_next_one_comes() -> None:
    for entry in TIMETABLE:
        period = entry.every if isinstance(entry.every, float) else CRONTAB_SECONDS[entry.name]
        assert 0.9 * period < entry.expires_seconds < period


def test_the_timetable_of_a_host_rings_its_own_control_pool() -> None:
    assert beat_schedule("db7")["reconcile"]["options"] == {"queue": "control.db7", "expires": 14.0}


def test_the_worker_registers_exactly_the_tasks_that_have_a_route() -> None:
    app = Celery("registry", set_as_current=False)
    for module in settings.TASK_MODULES:
        importlib.import_module(module)
    assert {name for name in app.tasks if name.startswith("continuum.")} == set(TASKS)


def test_the_settings_are_those_that_were_measured(config: Config) -> None:
    found = settings.celery_settings(config)
    expected = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "accept_content": ["json"],
        "task_default_priority": routing.BACKUP_PRIORITY,
        "task_track_started": True,
        "worker_send_task_events": True,
        "result_expires": 86_400,
    }
    assert {key: found[key] for key in expected} == expected
    transport = found["broker_transport_options"]
    measured = {
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 30,
        "socket_timeout": 30.0,
    }
    assert {key: transport[key] for key in measured} == measured
    assert transport["global_keyprefix"] == found["result_backend_transport_options"]["global_keyprefix"] == "continuum:"


def test_sender_and_receiver_share_every_setting_that_shapes_a_message(config: Config) -> None:
    sent, received = client_settings(config.broker.url or ""), settings.celery_settings(config)
    for key, value in sent["broker_transport_options"].items():
        assert received["broker_transport_options"][key] == value
    assert {key: received[key] for key in sent if key != "broker_transport_options"} == {
        key: value for key, value in sent.items() if key != "broker_transport_options"
    }


def test_a_unix_socket_gets_no_option_that_its_connection_lacks(config: Config) -> None:
    local = replace(config, broker=BrokerSettings(url="redis+socket://:p@/s.sock?virtual_host=1"))
    assert settings.celery_settings(local)["redis_socket_keepalive"] is False
    assert settings.celery_settings(config)["redis_socket_keepalive"] is True


def test_results_go_to_the_broker_unless_told_otherwise(config: Config) -> None:
    assert result_url(config) == config.broker.url
    other = replace(config, broker=BrokerSettings(url=config.broker.url, result_url="redis://results.example/3"))
    assert result_url(other) == "redis://results.example/3"


def test_the_embedded_url_survives_odd_characters_in_its_path(config: Config) -> None:
    local = replace(config, broker=BrokerSettings(), state_dir=config.state_dir / "a b#c")
    files = embedded(local.state_dir)
    files.directory.mkdir(parents=True)
    files.socket_record.write_text(f"{files.directory}/broker.sock")
    files.password.write_text("00ff")
    assert broker_url_of(local).endswith("a%20b%23c/broker/broker.sock?virtual_host=1")
    assert "00ff" not in address(broker_url_of(local))


def test_a_pool_command_names_its_queue_and_no_url(config: Config) -> None:
    for pool in pools.pools(config):
        words = pools.pool_command(pool, host=config.host)
        assert words[words.index("-Q") + 1] == pool.queue
        assert words[words.index("-n") + 1] == f"{pool.name}@h1"
        assert {"--without-gossip", "--without-mingle", "fair", "prefork"} <= set(words)
        assert not [word for word in words if "redis" in word]


def test_capture_is_a_process_of_its_own_and_asks_for_no_broker() -> None:
    words = pools.capture_command()
    assert words[-1] == "workers.capture" and pools.CAPTURE not in {"agent", "transfer", "verify", "control"}


def test_every_process_is_started_by_location_so_that_no_other_workers_package_is_imported(config: Config) -> None:
    """As a launcher that knows where our modules are; `-P` keeps the current directory off the path."""
    for words in (pools.capture_command(), *(pools.pool_command(pool, host=config.host) for pool in pools.pools(config))):
        assert words[1:3] == ("-P", str(PACKAGE / "launch.py"))


def test_no_source_starts_a_process_by_a_name_that_the_path_decides() -> None:
    sources = [path for place in (PACKAGE, PACKAGE.parent / "workers") for path in place.rglob("*.py")]
    assert len(sources) > 300
    assert not [path.name for path in sources if '"-m"' in path.read_text(encoding="utf-8")]


def test_a_pool_runs_with_the_given_configuration_and_a_remapped_sigterm(config: Config) -> None:
    found = pools.environment(config.directory, {"PATH": "/bin", "PYTHONPATH": "/x"})
    assert (found["CONTINUUM_CONFIG_DIR"], found["REMAP_SIGTERM"], found["PATH"]) == (str(config.directory), "SIGQUIT", "/bin")
    assert found["PYTHONPATH"] == "/x", "what our processes run finds its own packages"


def test_a_flower_port_that_is_no_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUUM_FLOWER_PORT", "high")
    with pytest.raises(ConfigError, match="CONTINUUM_FLOWER_PORT"):
        settings.flower_port()
    monkeypatch.setenv("CONTINUUM_FLOWER_PORT", "7000")
    assert settings.flower_port() == 7000


def test_the_socket_of_the_broker_is_short_where_state_and_temporary_directories_are_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("d" * 100)
    (long / "broker").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    broker.prepare_broker(long)
    path = Path(embedded(long).socket_record.read_text())
    assert len(str(path)) < 108
    broker.tidy(long)
    assert not path.parent.exists()
