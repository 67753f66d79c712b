"""What our workers do beside consuming: refuse an unsafe broker, report, ring for what was missed, keep long tasks theirs."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.worker import state

from continuum_tasks.config import Config
from continuum_tasks.errors import BrokerUnsafe, ContinuumError
from continuum_tasks.host import routing
from continuum_tasks.host.jobs import open_jobs
from continuum_tasks.host.metadata import METADATA
from continuum_tasks.tasks.client import broker_url_of, check_broker
from workers.settings import this_config

_log = logging.getLogger(__name__)


class SafeBroker(bootsteps.StartStopStep):
    """At every connection: end the worker when the broker may drop messages on its own."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, c: Any) -> None:
        try:
            check_broker(broker_url_of(this_config()), timeout_seconds=5.0)
        except BrokerUnsafe as err:
            _log.critical("%s; %s", err.message, err.hint)
            raise WorkerShutdown(err.exit_code) from err


class PoolHeartbeat(bootsteps.StartStopStep):
    """Report the pool while it consumes. Runs in the main loop, which is also what forks children."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        self._timer: Any = None
        super().__init__(c, **kwargs)

    def start(self, c: Any) -> None:
        pool = c.hostname.partition("@")[0]
        queue = ",".join(c.app.amqp.queues.consume_from)
        report_pool(this_config(), pool, queue=queue)
        self._timer = c.timer.call_repeatedly(BEAT_SECONDS, report_pool, (this_config(), pool), {"queue": queue})

    def stop(self, c: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            leave_pool(this_config(), c.hostname.partition("@")[0])


class MissedWork(bootsteps.StartStopStep):
    """At every connection of an agent: reconcile now, for rows whose ring was lost with the last broker or worker."""

    requires = (PoolHeartbeat,)

    def start(self, c: Any) -> None:
        queue = routing.agent_queue(this_config().host)
        if queue in c.app.amqp.queues.consume_from:
            with c.app.connection_for_write() as connection:
                c.app.send_task(routing.RECONCILE, queue=queue, connection=connection, expires=60, ignore_result=True)


class KeepMessages(bootsteps.StartStopStep):
    """Refresh the broker's clock for messages this worker holds: one that outlives the visibility timeout ran twice."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        self._timer: Any = None
        super().__init__(c, **kwargs)

    def start(self, c: Any) -> None:
        timeout = c.app.conf.broker_transport_options["visibility_timeout"]
        self._timer = c.timer.call_repeatedly(timeout / 4, refresh, (c,))

    def stop(self, c: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def refresh(consumer: Any) -> None:
    """Set the time of every message the consumer holds to now; one that was acknowledged meanwhile is not added again."""
    held = {request.message.delivery_tag: time.time() for request in list(state.reserved_requests)}
    channel = consumer.task_consumer.channel
    if held:
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, held, xx=True)


STEPS = (SafeBroker, PoolHeartbeat, MissedWork, KeepMessages)


BEAT_SECONDS = 2.0


BEAT_POOL = "beat"


def report_pool(config: Config, pool: str, *, queue: str) -> None:
    """Write one beat. A beat that cannot be written is logged: four more follow before anyone counts the pool as gone."""
    try:
        jobs = open_jobs(config.state_dir / METADATA)
        try:
            jobs.beat(pool, queue, host=config.host, now=datetime.now(UTC))
        finally:
            jobs.close()
    except ContinuumError as err:
        _log.warning("pool %s: heartbeat not written: %s", pool, err.message)


def leave_pool(config: Config, pool: str) -> None:
    """Take the pool's row away; a row that stays shows as not alive."""
    try:
        jobs = open_jobs(config.state_dir / METADATA)
        try:
            jobs.leave(pool, host=config.host)
        finally:
            jobs.close()
    except ContinuumError as err:
        _log.warning("pool %s: last heartbeat not removed: %s", pool, err.message)
