"""What our workers do beside consuming: refuse an unsafe broker, report, ring for what was missed, keep long tasks theirs."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.worker import state

from continuum_tasks.errors import BrokerUnsafe
from continuum_tasks.host import routing
from continuum_tasks.tasks.client import broker_url_of, check_broker
from workers.heartbeat import BEAT_SECONDS, leave_pool, report_pool
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
