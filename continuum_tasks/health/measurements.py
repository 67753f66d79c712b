"""Keep, as metrics, how old recovery points are and how captures do. What cannot be kept is not an error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime

from continuum_tasks.capture.plan.assessment import measured
from continuum_tasks.errors import ContinuumError
from continuum_tasks.health.plan.protection import LastBackup, Protection
from continuum_tasks.host.metrics import Sample
from continuum_tasks.host.site import HostContext


def keep_watch(found: Iterable[tuple[Protection, LastBackup]], *, site: HostContext, at: datetime) -> None:
    """Keep how old recovery points are, and how captures do."""
    samples = [
        sample
        for protection, last in found
        for sample in seen(protection, last, () if protection.capture is None else measured(protection.capture, now=at), at=at)
    ]
    with contextlib.suppress(ContinuumError):
        site.metrics.record_all(samples)


def seen(
    protection: Protection, last: LastBackup, figures: Iterable[tuple[str, str, float]], *, at: datetime
) -> Iterator[Sample]:
    """Yield how old the recovery point of a database is, and these figures of its capture, as samples."""
    if last.backup is not None:
        labels = {"database": last.database, "storage": last.backup.storage}
        yield Sample(name="backup_rpo_seconds", at=at, value=last.age_seconds, labels=labels)
    for name, quantile, value in figures:
        labels = {"database": protection.database} | ({"quantile": quantile} if quantile else {})
        yield Sample(name=name, at=at, value=value, labels=labels)
