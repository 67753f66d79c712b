"""The queues of one host, as Celery declares them."""

from __future__ import annotations

from kombu import Queue

from continuum_tasks.host import routing
from continuum_tasks.tasks.client import queue_named


def queues(host: str) -> tuple[Queue, ...]:
    """Return every queue that a pool of `host` may serve."""
    names = (routing.agent_queue, routing.transfer_queue, routing.verify_queue, routing.control_queue)
    return tuple(queue_named(name(host)) for name in names)
