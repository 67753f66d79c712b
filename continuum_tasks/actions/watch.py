"""Measure how far back a restore of each database would go now: from files of this host, so that it can be done each minute."""

from __future__ import annotations

from continuum_tasks.actions import measure
from continuum_tasks.actions.health import protections
from continuum_tasks.actions.site import Site
from continuum_tasks.config import Config
from continuum_tasks.metrics import Sample
from continuum_tasks.plan.capturing import fresh
from continuum_tasks.plan.protection import LastBackup, last_backup


def present(config: Config, *, site: Site) -> tuple[Sample, ...]:
    """Return what is otherwise measured each minute as it is now; nothing is kept."""
    now = site.clock.now()
    found: list[Sample] = []
    for one in protections(config, site.catalog.backups(), site=site):
        figures = () if one.capture is None else fresh(one.capture, now=now)
        found += measure.seen(one, last_backup(one, now=now), figures, at=now)
    return tuple(found)


def run(config: Config, *, site: Site) -> tuple[LastBackup, ...]:
    """Return the recovery point of each database against its target; keep the ages, and what its capture says of itself."""
    now = site.clock.now()
    known = protections(config, site.catalog.backups(), site=site)
    found = tuple(last_backup(one, now=now) for one in known)
    measure.watched(zip(known, found, strict=True), site=site, at=now)
    return found
