"""Measure how far back a restore of each database would go now: from files of this host, so that it can be done each minute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from continuum_tasks.capture.overview import capture_of
from continuum_tasks.capture.plan.assessment import fresh, measured
from continuum_tasks.config import Config
from continuum_tasks.errors import ContinuumError
from continuum_tasks.health.plan.protection import LastBackup, Protection, last_backup
from continuum_tasks.history.chain import made_on
from continuum_tasks.host.metrics import Sample
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup


def present(config: Config, *, site: HostContext) -> tuple[Sample, ...]:
    """Return what is otherwise measured each minute as it is now; nothing is kept."""
    now = site.clock.now()
    found: list[Sample] = []
    for one in protections(config, site.catalog.backups(), site=site):
        figures = () if one.capture is None else fresh(one.capture, now=now)
        found += seen(one, last_backup(one, now=now), figures, at=now)
    return tuple(found)


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
