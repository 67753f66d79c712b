"""Measure how far back a restore of each database would go now: from files of this host, so that it can be done each minute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from continuum_tasks.capture.overview import capture_of
from continuum_tasks.capture.plan.assessment import measured
from continuum_tasks.config import Config
from continuum_tasks.errors import ContinuumError
from continuum_tasks.health.plan.protection import LastBackup, Protection, last_backup
from continuum_tasks.history.chain import made_on
from continuum_tasks.host.metrics import Sample
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup


def watch_recovery_points(config: Config, *, site: HostContext) -> tuple[LastBackup, ...]:
    """Return the recovery point of each database against its target; keep the ages, and what its capture says of itself."""
    now = site.clock.now()
    known = protections(config, site.catalog.backups(), site=site)
    found = tuple(last_backup(one, now=now) for one in known)
    keep_watch(zip(known, found, strict=True), site=site, at=now)
    return found


def protections(config: Config, backups: Sequence[Backup], *, site: HostContext) -> list[Protection]:
    """Return what is known of each declared database: its rhythm, its backups in the declared storages, its capture.

    Those that this host made; one that has made none, as after a disaster, lives on what another left.
    """
    declared = {storage.name for storage in config.storages}
    found = []
    for database in config.databases:
        there = [b for b in backups if b.database == database.name and b.storage in declared]
        known = Protection(
            database=database.name,
            storage=database.storage,
            rhythm=database.rhythm,
            backups=tuple(made_on(config.host, there) or there),
            capture=capture_of(database, config=config, site=site),
        )
        found.append(known)
    return found


def keep_watch(found: Iterable[tuple[Protection, LastBackup]], *, site: HostContext, at: datetime) -> None:
    """Keep how old recovery points are, and how captures do."""
    samples = [sample for protection, last in found for sample in _watched(protection, last, at=at)]
    with contextlib.suppress(ContinuumError):
        site.metrics.record_all(samples)


def _watched(protection: Protection, last: LastBackup, *, at: datetime) -> Iterator[Sample]:
    if last.backup is not None:
        labels = {"database": last.database, "storage": last.backup.storage}
        yield Sample(name="backup_rpo_seconds", at=at, value=last.age_seconds, labels=labels)
    for name, quantile, value in () if protection.capture is None else measured(protection.capture, now=at):
        labels = {"database": protection.database} | ({"quantile": quantile} if quantile else {})
        yield Sample(name=name, at=at, value=value, labels=labels)
