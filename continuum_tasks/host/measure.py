"""Keep what a finished run took and moved. A measurement that cannot be kept never fails the run: its work is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from continuum_tasks.errors import ContinuumError
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupStatus, DrillRecord, PhaseCost

LATENCY = "storage_latency_seconds"  # kept each time one answered
# The phases of a backup in the order they begin. `hash`, `compress`, `seal` and `upload` run in several threads or workers at
# once, `check` and `count` beside them, so the sum may exceed the run.
PHASES = ("stage", "plan", "hash", "compress", "seal", "upload", "check", "count", "commit")


@contextmanager
def timed(phase: str, costs: list[PhaseCost], *, n_bytes: int, monotonic: Callable[[], float]) -> Iterator[None]:
    """Add what its context took to `costs`, unless the context raises."""
    begun = monotonic()
    yield
    costs.append(PhaseCost(phase=phase, seconds=monotonic() - begun, n_bytes=n_bytes))


def added(costs: Iterable[PhaseCost]) -> tuple[PhaseCost, ...]:
    """Return one cost per phase, in the order of `PHASES`, to the microsecond."""
    seconds: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for cost in costs:
        seconds[cost.phase] = seconds.get(cost.phase, 0.0) + cost.seconds
        sizes[cost.phase] = sizes.get(cost.phase, 0) + cost.n_bytes
    return tuple(PhaseCost(phase=p, seconds=round(seconds[p], 6), n_bytes=sizes[p]) for p in PHASES if p in seconds)


def measure_backup(made: Backup, seconds: float, *, site: HostContext) -> None:
    """Keep the measurements of one backup, all stamped with its end, so that they can be told to belong together."""
    values = {
        "backup_duration_seconds": seconds,
        "backup_size_bytes": made.original_size_bytes,
        "backup_stored_bytes": made.stored_size_bytes,
        "backup_compression_ratio": made.compression_ratio,
        "backup_changed_pages_ratio": made.layer_size_bytes / made.original_size_bytes if made.original_size_bytes else 0.0,
    }
    labels = {"status": "suspect"} if made.status is BackupStatus.SUSPECT else {}
    _keep(values, {**_of(made), **labels}, site=site, at=made.finished_at)


def record_phase_costs(profile: Iterable[PhaseCost], backup: Backup, *, site: HostContext) -> None:
    """Keep what the phases of a backup took as `backup_phase_seconds`; not being able to does not fail the backup."""
    labels = {"database": backup.database, "strategy": backup.strategy.value, "storage": backup.storage}
    with contextlib.suppress(ContinuumError):
        for cost in profile:
            named = {**labels, "phase": cost.phase}
            site.metrics.record("backup_phase_seconds", cost.seconds, at=backup.finished_at, labels=named)


def measure_verification(verified: Backup, seconds: float, *, site: HostContext) -> None:
    """Keep how long one verification took."""
    _keep({"verify_duration_seconds": seconds}, _of(verified), site=site, at=site.clock.now())


def measure_drill(record: DrillRecord, *, storage: str, site: HostContext) -> None:
    """Keep how long a drill or test restore that passed took, as a whole and by phase."""
    labels = {"database": record.database, "storage": storage, "kind": record.kind.value}
    if record.passed:
        _keep({"drill_rto_seconds": record.rto_seconds}, labels, site=site, at=record.at)
    for cost in record.phases if record.passed else ():
        _keep({"drill_phase_seconds": cost.seconds}, {**labels, "phase": cost.phase}, site=site, at=record.at)


def compaction(database: str, storage: str, values: Mapping[str, float], *, site: HostContext) -> None:
    """Keep what one run that merged segments took."""
    _keep(values, {"database": database, "storage": storage}, site=site, at=site.clock.now())


def measure_storage(name: str, *, used_bytes: int, free_bytes: int | None, site: HostContext) -> None:
    """Keep how much a storage holds, and has free where that shows."""
    free = {} if free_bytes is None else {"storage_free_bytes": float(free_bytes)}
    _keep({"storage_used_bytes": float(used_bytes), **free}, {"storage": name}, site=site, at=site.clock.now())


def answered(name: str, latency_seconds: float, *, site: HostContext) -> None:
    """Keep that a storage answered, and how fast."""
    _keep({LATENCY: latency_seconds}, {"storage": name}, site=site, at=site.clock.now())


def _of(backup: Backup) -> dict[str, str]:
    return {"database": backup.database, "strategy": backup.strategy.value, "storage": backup.storage}


def _keep(values: Mapping[str, float], labels: Mapping[str, str], *, site: HostContext, at: datetime) -> None:
    with contextlib.suppress(ContinuumError):
        for name, value in values.items():
            site.metrics.record(name, value, at=at, labels=labels)
