"""Ring the broker from outside a worker: a minimal Celery app, where the broker is, and whether it may be trusted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from continuum_tasks.config import Config
from continuum_tasks.errors import BrokerUnreachable, BrokerUnsafe
from continuum_tasks.host.job_kinds import JOB_KINDS, JobArguments
from continuum_tasks.host.jobs import Job
from continuum_tasks.host.routing import BACKUP_PRIORITY, PRIORITY_STEPS

KEY_PREFIX = "continuum:"
PROBE_SECONDS = 1.0
_OF_EVERY_ROW = frozenset(one.name for one in fields(JobArguments))
_OLDEST_REDIS = (6, 2)  # kombu asks for ZRANGE ... BYSCORE REV


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Files of the broker that `continuum up` runs: `socket_record` names its socket, which may lie elsewhere."""

    directory: Path
    data: Path
    socket_record: Path
    password: Path


def embedded(state_dir: Path) -> Embedded:
    """Return where the embedded broker of this state directory keeps its files."""
    directory = state_dir / "broker"
    return Embedded(
        directory=directory, data=directory / "data", socket_record=directory / "socket", password=directory / "password"
    )


def broker_url_of(config: Config) -> str:
    """Return the configured broker, else the embedded one. Raises BrokerUnreachable when there is neither."""
    if config.broker.url is None:
        return _embedded_url(embedded(config.state_dir))
    return config.broker.url


def result_url(config: Config) -> str:
    """Return where task states are kept: the configured result URL, else the broker."""
    return config.broker.result_url or broker_url_of(config)


def client_settings(url: str) -> dict[str, Any]:
    """Return the Celery settings that whoever sends and whoever receives must share."""
    return {
        "broker_url": url,
        "broker_connection_timeout": 4.0,
        "broker_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            "priority_steps": list(PRIORITY_STEPS),
            "queue_order_strategy": "priority",
            "socket_timeout": 30.0,
            "socket_connect_timeout": 4.0,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_default_priority": BACKUP_PRIORITY,  # none given would mean 0, the highest
        "task_send_sent_event": True,
        "timezone": "UTC",
        "enable_utc": True,
    }


def client_app(config: Config) -> Celery:
    """Return an app that can send and nothing else; it keeps no results, so nothing is pending when a command exits."""
    app = Celery("continuum-client", set_as_current=False)
    app.conf.update(client_settings(broker_url_of(config)), task_ignore_result=False, result_backend=None)
    return app


def ring(app: Celery, task: str, job: Job, *, queue: str) -> None:
    """Tell a worker of `queue` to look at one job row. Raises BrokerUnreachable; the row stays due either way."""
    anywhere = job.kind in JOB_KINDS and JOB_KINDS[job.kind].anywhere
    also = {key: value for key, value in job.args.items() if key not in _OF_EVERY_ROW} if anywhere else {}
    try:
        app.send_task(
            task,
            args=[job.id],
            kwargs=also,
            queue=queue_named(queue),  # type: ignore[arg-type] # a Queue is taken too
            priority=job.priority,
            retry=False,
        )
    except (OperationalError, redis.RedisError, OSError) as err:
        raise BrokerUnreachable(f"queue {queue}: cannot send {task} ({err})", hint="see `continuum health-check`") from err


def queue_named(name: str) -> Queue:
    """Return the queue as every process of ours declares it: an exchange and a routing key of its own name."""
    return Queue(name, Exchange(name), routing_key=name)


def check_broker(url: str, *, timeout_seconds: float = PROBE_SECONDS) -> None:
    """Prove that the broker answers within the timeout and never drops a message on its own.

    Raises BrokerUnreachable, or BrokerUnsafe when it evicts keys or is too old.
    """
    where = address(url)
    client = _connect(url, timeout_seconds)
    try:
        found = cast(dict[str, Any], client.info())
    except (redis.RedisError, OSError) as err:
        raise BrokerUnreachable(f"broker {where}: {err}", hint="start it, or run `continuum up`") from err
    finally:
        client.close()
    policy = found.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        hint = "set `maxmemory-policy noeviction` in its configuration; an evicting server drops queued work silently"
        raise BrokerUnsafe(f"broker {where}: maxmemory-policy is {policy}", hint=hint)
    version = str(found.get("redis_version", "0.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_REDIS:
        raise BrokerUnsafe(f"broker {where}: Redis {version} is too old", hint="use Redis 6.2 or newer, or Valkey")


def address(url: str) -> str:
    """Return the URL without its credentials, fit for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _connect(url: str, timeout_seconds: float) -> redis.Redis:
    # No retries: the client's default of three with pauses would turn a second into ten.
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    parts = urlsplit(url)
    if parts.scheme != "redis+socket":
        return redis.Redis.from_url(url, **options)
    database = int(parse_qs(parts.query).get("virtual_host", ["0"])[0])
    password = None if parts.password is None else unquote(parts.password)
    return redis.Redis(unix_socket_path=unquote(parts.path), db=database, password=password, **options)


def _embedded_url(files: Embedded) -> str:
    try:
        socket, password = files.socket_record.read_text(encoding="utf-8"), files.password.read_text(encoding="ascii")
    except FileNotFoundError as err:
        raise BrokerUnreachable(
            f"{files.directory}: no broker is configured, and none was started here before", hint="run `continuum up`"
        ) from err
    except PermissionError as err:
        raise BrokerUnreachable(
            f"{files.directory}: not readable by this user", hint="run as the user of `continuum up`"
        ) from err
    return f"redis+socket://:{quote(password.strip(), safe='')}@{quote(socket.strip())}?virtual_host=1"
