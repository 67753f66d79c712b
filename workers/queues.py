"""The queues of one host, as Celery declares them."""

from __future__ import annotations

from kombu import Queue

from continuum_tasks.tasks import routing
from continuum_tasks.tasks.client import queue_named


def queues(host: str) -> tuple[Queue, ...]:
    """Return every queue that a pool of `host` may serve."""
    names = (routing.agent_queue(host), routing.transfer_queue(host), routing.VERIFY, routing.control_queue(host))
    return tuple(queue_named(name) for name in names)
