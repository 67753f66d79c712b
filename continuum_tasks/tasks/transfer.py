"""The tasks of the transfer pool: one chunk each, sealed and stored, or fetched and written."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from celery import Task, shared_task

from continuum_tasks.host.routing import FETCH_CHUNK, SEAL_CHUNK
from continuum_tasks.model import Progress
from continuum_tasks.repository.documents import from_json
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.shell import JobContext, perform


@shared_task(name=SEAL_CHUNK, bind=True)
def seal_chunk_task(self: Task[Any, Any], job_id: str) -> Any:
    """Seal and store one chunk of a backup."""
    return perform(self, job_id, kind="seal_chunk", act=_act)


@shared_task(name=FETCH_CHUNK, bind=True)
def fetch_chunk_task(self: Task[Any, Any], job_id: str) -> Any:
    """Fetch and write one chunk of a restore."""
    return perform(self, job_id, kind="fetch_chunk", act=_act)


def _act(runtime: Runtime, bench: JobContext) -> Generator[Progress, None, Any]:
    work = runtime.works()[bench.job.kind]
    yield Progress(phase=bench.job.kind)
    return work.run(from_json(work.unit, bench.job.args))
