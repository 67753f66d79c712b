"""Keep what a finished run took and moved. A measurement that cannot be kept never fails the run: its work is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from continuum_tasks.actions.asked import LATENCY
from continuum_tasks.actions.site import Site
from continuum_tasks.errors import ContinuumError
from continuum_tasks.metrics import Sample
from continuum_tasks.model import Backup, DrillRecord, Status
from continuum_tasks.plan.capturing import measured
from continuum_tasks.plan.protection import LastBackup, Protection


def backup(made: Backup, seconds: float, *, site: Site) -> None:
    """Keep the measurements of one backup, all stamped with its end, so that they can be told to belong together."""
    values = {
        "backup_duration_seconds": seconds,
        "backup_size_bytes": made.original_size_bytes,
        "backup_stored_bytes": made.stored_size_bytes,
        "backup_compression_ratio": made.compression_ratio,
        "backup_changed_pages_ratio": made.layer_size_bytes / made.original_size_bytes if made.original_size_bytes else 0.0,
    }
    labels = {"status": "suspect"} if made.status is Status.SUSPECT else {}
    _keep(values, {**_of(made), **labels}, site=site, at=made.finished_at)


def verify(verified: Backup, seconds: float, *, site: Site) -> None:
    """Keep how long one verification took."""
    _keep({"verify_duration_seconds": seconds}, _of(verified), site=site, at=site.clock.now())


def drill(record: DrillRecord, *, storage: str, site: Site) -> None:
    """Keep how long a drill or test restore that passed took, as a whole and by phase."""
    labels = {"database": record.database, "storage": storage, "kind": record.kind.value}
    if record.passed:
        _keep({"drill_rto_seconds": record.rto_seconds}, labels, site=site, at=record.at)
    for cost in record.phases if record.passed else ():
        _keep({"drill_phase_seconds": cost.seconds}, {**labels, "phase": cost.phase}, site=site, at=record.at)


def compaction(database: str, storage: str, values: Mapping[str, float], *, site: Site) -> None:
    """Keep what one run that merged segments took."""
    _keep(values, {"database": database, "storage": storage}, site=site, at=site.clock.now())


def storage(name: str, *, used_bytes: int, free_bytes: int | None, site: Site) -> None:
    """Keep how much a storage holds, and has free where that shows."""
    free = {} if free_bytes is None else {"storage_free_bytes": float(free_bytes)}
    _keep({"storage_used_bytes": float(used_bytes), **free}, {"storage": name}, site=site, at=site.clock.now())


def answered(name: str, latency_seconds: float, *, site: Site) -> None:
    """Keep that a storage answered, and how fast."""
    _keep({LATENCY: latency_seconds}, {"storage": name}, site=site, at=site.clock.now())


def watched(found: Iterable[tuple[Protection, LastBackup]], *, site: Site, at: datetime) -> None:
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


def _of(backup: Backup) -> dict[str, str]:
    return {"database": backup.database, "strategy": backup.strategy.value, "storage": backup.storage}


def _keep(values: Mapping[str, float], labels: Mapping[str, str], *, site: Site, at: datetime) -> None:
    with contextlib.suppress(ContinuumError):
        for name, value in values.items():
            site.metrics.record(name, value, at=at, labels=labels)
