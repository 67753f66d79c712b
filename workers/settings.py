"""Celery's settings from ours, and what a worker process reads from its environment."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from beat_schedule import beat_schedule
from continuum_tasks.config import Config, find_config_directory, load_config
from continuum_tasks.errors import ConfigError
from continuum_tasks.host import routing
from continuum_tasks.host.job_kinds import JOB_KINDS
from continuum_tasks.tasks.client import KEY_PREFIX, broker_url_of, client_settings, result_url
from workers.queues import queues

# A message that nobody acknowledged comes back after this; bootsteps refresh it for tasks that still run.
VISIBILITY_SECONDS = 300
SOFT_SHUTDOWN_SECONDS = 5.0  # slept through in full by Celery when a task runs at the stop; enough for a chunk
TASK_MODULES = ("continuum_tasks.tasks.jobs", "continuum_tasks.tasks.periodic")


@cache
def this_config() -> Config:
    """Return the configuration of this process, read once from CONTINUUM_CONFIG_DIR. Raises ConfigError."""
    return load_config(find_config_directory(None, os.environ))


def failpoints() -> str:
    """Return the failpoints a test wants armed in task processes."""
    return os.environ.get("CONTINUUM_FAILPOINTS", "")


def inherited_environment() -> dict[str, str]:
    """Return what child processes start from."""
    return dict(os.environ)


def flower_port() -> int | None:
    """Return the port that CONTINUUM_FLOWER_PORT asks Flower to take, or None. Raises ConfigError."""
    text = os.environ.get("CONTINUUM_FLOWER_PORT", "")
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigError(f"CONTINUUM_FLOWER_PORT={text!r}: not a port", hint="use 1 to 65535, or unset it")
    return int(text)


def settings_of_this_process() -> dict[str, Any]:
    """Return Celery's settings for the configuration of this process."""
    return celery_settings(this_config())


def celery_settings(config: Config) -> dict[str, Any]:
    """Return Celery's settings for a configuration; reads the embedded broker's address when none is configured."""
    return {**_broker(config), **_results(config), **_tasks(config), **_worker(), **_beat(config)}


def _broker(config: Config) -> dict[str, Any]:
    shared = client_settings(broker_url_of(config))
    transport = {
        **shared["broker_transport_options"],
        "visibility_timeout": VISIBILITY_SECONDS,
        # Defaults look for lost messages every 10th poll under a lock of 300 s: a dead worker's task waits minutes.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 30,
    }
    return {
        **shared,
        "broker_transport_options": transport,
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
    }


def _results(config: Config) -> dict[str, Any]:
    url = result_url(config)
    return {
        "result_backend": url,
        "result_expires": 24 * 3600,
        "result_extended": True,
        # Results are for Flower; work never waits for a broker that is away.
        "result_backend_always_retry": False,
        "result_backend_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            "retry_policy": {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5},
        },
        "redis_socket_timeout": 30.0,
        "redis_socket_connect_timeout": 4.0,
        "redis_backend_health_check_interval": 25,
        # A unix socket's connection class has no such option.
        "redis_socket_keepalive": not url.startswith("redis+socket"),
    }


def _tasks(config: Config) -> dict[str, Any]:
    return {
        "include": list(TASK_MODULES),
        "continuum_config_directory": str(config.directory),  # tasks read it instead of an environment
        "imports": (),
        "task_queues": queues(config.host),
        "task_routes": {task: {"queue": queue} for task, queue in task_queues(config.host).items()},
        "task_default_queue": routing.control_queue(config.host),
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,  # may loop for ever by itself: the attempt cap of the job row ends it
        "task_track_started": True,
    }


def task_queues(host: str) -> dict[str, str]:
    """Return the queue of every task on `host`."""
    of_rows = {kind.task: kind.queue(host) for kind in JOB_KINDS.values()}
    return of_rows | dict.fromkeys(routing.PERIODIC, routing.control_queue(host))


def _worker() -> dict[str, Any]:
    return {
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # True ended the whole worker
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_SECONDS,
        "worker_send_task_events": True,
        "worker_proc_alive_timeout": 30.0,  # 4 s is too short when eight processes start on two cores
        "worker_redirect_stdouts": False,
    }


def _beat(config: Config) -> dict[str, Any]:
    return {
        "beat_schedule": beat_schedule(config.host),
        "beat_scheduler": "workers.timetable:Timetable",
        "beat_schedule_filename": str(config.state_dir / "beat-schedule"),
        "beat_max_loop_interval": 2,
    }
