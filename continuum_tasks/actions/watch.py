"""Measure how far back a restore of each database would go now: from files of this host, so that it can be done each minute."""

from __future__ import annotations

from continuum_tasks.actions.health import protections
from continuum_tasks.actions.site import Site
from continuum_tasks.config import Config
from continuum_tasks.plan.protection import LastBackup, last_backup


def run(config: Config, *, site: Site) -> tuple[LastBackup, ...]:
    """Return the recovery point of each database against its target, and keep the ages as `backup_rpo_seconds`."""
    now = site.clock.now()
    found = tuple(last_backup(one, now=now) for one in protections(config, site.catalog.backups(), site=site))
    for last in found:
        if last.backup is not None:
            labels = {"database": last.database, "storage": last.backup.storage}
            site.metrics.record("backup_rpo_seconds", last.age_seconds, at=now, labels=labels)
    return found
