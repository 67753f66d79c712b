"""Tell which storages answered a while ago, and need not be asked again by a look that comes every few minutes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from continuum_tasks.config import StorageConfig
from continuum_tasks.health.plan.protection import Protection
from continuum_tasks.host.jobs import Jobs
from continuum_tasks.host.measure import LATENCY
from continuum_tasks.host.metrics import Sample
from continuum_tasks.host.site import HostContext


def lately(
    storages: Sequence[StorageConfig], protections: Sequence[Protection], *, site: HostContext, jobs: Jobs, within: timedelta
) -> dict[str, Sample]:
    """Return the last answer of each storage that answered `within` a span and gave no sign of trouble since.

    Signs are a job that failed with it, commits that wait to be shipped to it, a local directory that is gone; and one that
    the catalog has never read must be asked.
    """
    now = site.clock.now()
    found = {sample.labels["storage"]: sample for sample in site.metrics.series(LATENCY, since=now - within)}
    failed = {(str(job.args.get("storage")), job.updated_at) for job in jobs.failed(now - within)}
    behind = {one.capture.storage for one in protections if one.capture is not None and one.capture.is_behind(now)}
    return {
        one.name: found[one.name]
        for one in storages
        if one.name in found
        and found[one.name].at <= now
        and not _failed(one.name, failed, since=found[one.name].at)
        and one.name not in behind
        and (one.path is None or one.path.is_dir())
        and site.catalog.is_indexed(one.name)
    }


def _failed(storage: str, failed: set[tuple[str, datetime]], *, since: datetime) -> bool:
    return any(name == storage and at >= since for name, at in failed)
