"""The task that merges captured segments, on the control pool; whoever ships them queues it when there are enough."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

from celery import Task, shared_task

from continuum_tasks.capture import compact
from continuum_tasks.host.routing import COMPACT_SEGMENTS
from continuum_tasks.model import Progress
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks.shell import JobContext, perform

KIND = "compact_segments"

_log = logging.getLogger(__name__)


@shared_task(name=COMPACT_SEGMENTS, bind=True)
def compact_segments_task(self: Task[Any, Any], job_id: str) -> Any:
    """Merge as the job row says; delivered twice, at once or later, it changes nothing."""
    return perform(self, job_id, kind=KIND, act=_act)


def _act(runtime: Runtime, bench: JobContext) -> Generator[Progress, None, compact.Compacted]:
    args = bench.job.args
    request = compact.CompactRequest(database=str(args["database"]))
    repository = runtime.repository(str(args["storage"]))
    done = yield from compact.compact_segments(request, repository=repository, site=runtime.site, check_lease=bench.check_lease)
    for key in done.foreign:
        _log.warning("object %s: holds other commits than the merged segment that covers it; it stays", key)
    return done
