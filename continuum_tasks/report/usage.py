"""Say what the storages hold, how fast that grows and when they fill; only the catalog and local disks are asked."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta

from continuum_tasks.config import StorageConfig
from continuum_tasks.findings import Trouble
from continuum_tasks.host import measure
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup
from continuum_tasks.report.plan.usage import StorageReading, StorageUsage, UsagePoint, add_up_usage

LOOK_BACK = timedelta(days=90)


def measure_usage(
    storages: Sequence[StorageConfig], backups: Sequence[Backup], *, site: HostContext
) -> tuple[StorageUsage, ...]:
    """Add up each storage's share of the catalogued backups, and keep the sums as measurements."""
    found = tuple(_usage(settings, backups, site=site) for settings in storages)
    for usage in found:
        measure.measure_storage(usage.storage, used_bytes=usage.used_bytes, free_bytes=usage.free_bytes, site=site)
    return found


def _usage(settings: StorageConfig, backups: Sequence[Backup], *, site: HostContext) -> StorageUsage:
    now = site.clock.now()
    free_bytes, trouble = _free_bytes(settings)
    samples = site.metrics.series("storage_used_bytes", since=now - LOOK_BACK)
    measured = (UsagePoint(at=s.at, n_bytes=int(s.value)) for s in samples if s.labels.get("storage") == settings.name)
    past = tuple(point for point in measured if point.at <= now)
    facts = StorageReading(name=settings.name, free_bytes=free_bytes, measured=past, trouble=trouble)
    return add_up_usage(facts, backups, now=now)


def _free_bytes(settings: StorageConfig) -> tuple[int | None, Trouble | None]:
    """Ask the disk of a local storage; where others end does not show, and asking them would write into them."""
    if settings.path is None:
        return None, None
    try:
        existing = next(path for path in (settings.path, *settings.path.parents) if path.exists())
        return shutil.disk_usage(existing).free, None
    except OSError as err:
        message = f"storage {settings.name}: {settings.path} cannot be looked at: {err.strerror}"
        return None, Trouble(message=message, hint="is its disk mounted? run `continuum backup test-storage`")
