"""What each phase of a run took: measured where it happens, added up by phase, kept as measurements of this host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from continuum_tasks.errors import ContinuumError
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, PhaseCost

# In the order they begin. `hash`, `compress`, `seal` and `upload` run in several threads or workers at once, `check` and
# `count` beside them, so the sum may exceed the run.
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


def record_phase_costs(profile: Iterable[PhaseCost], backup: Backup, *, site: HostContext) -> None:
    """Keep what the phases of a backup took as `backup_phase_seconds`; not being able to does not fail the backup."""
    labels = {"database": backup.database, "strategy": backup.strategy.value, "storage": backup.storage}
    with contextlib.suppress(ContinuumError):
        for cost in profile:
            named = {**labels, "phase": cost.phase}
            site.metrics.record("backup_phase_seconds", cost.seconds, at=backup.finished_at, labels=named)
