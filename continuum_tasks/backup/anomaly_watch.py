"""The anomaly watch: compare a backup with those before it, before it exists, and hold the last clean one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from continuum_tasks.backup.plan import anomaly
from continuum_tasks.backup.plan.anomaly import Anomaly, CountedBackup
from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history.chain import made_on
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupStatus, Hold, Manifest
from continuum_tasks.repository.repository import Repository
from continuum_tasks.retention import hold

BY = "anomaly watch"
MAX_REASONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A manifest whose status says what was found; `last_clean` is what it was compared with last, `note` the numbers."""

    manifest: Manifest
    anomalies: tuple[Anomaly, ...]
    last_clean: Backup | None
    note: str


def judge_backup(manifest: Manifest, rows: Sequence[tuple[str, int]], *, repository: Repository, site: HostContext) -> Judged:
    """Compare a backup that is about to exist, with these rows in its tables, with the clean ones of its database and host."""
    made = manifest.backup
    backups = made_on(made.host, site.catalog.backups(storage=repository.name, database=made.database))
    clean = anomaly.clean(backups, site.catalog.acceptances(repository.name))
    counted = {one.id for one in (*clean[: anomaly.N_RECENT], *[b for b in clean if b.is_snapshot][: anomaly.N_FULLS])}
    history = [CountedBackup(backup=one, rows=site.catalog.row_counts(one) if one.id in counted else {}) for one in clean]
    new = CountedBackup(backup=manifest.backup, rows=dict(rows))
    found = anomaly.find_anomalies(new, history)
    return Judged(
        manifest=_suspect(manifest, found) if found else manifest,
        anomalies=found,
        last_clean=clean[0] if clean else None,
        note=anomaly.describe_comparison(new, history),
    )


def protect(judged: Judged, *, repository: Repository, site: HostContext) -> Hold | None:
    """Hold the last clean backup when there are anomalies; a hold that it has already stays as it is."""
    clean = judged.last_clean
    if clean is None or not judged.anomalies or clean.id in site.catalog.holds(repository.name):
        return None
    reason = f"the last clean one before {judged.manifest.backup.id}: {judged.anomalies[0].reason}"
    try:
        return hold.hold_backup(clean, reason, by=BY, repository=repository, site=site)
    except BackupNotFound:
        return None  # it expired meanwhile; that must not cost the backup that is at hand


def _suspect(manifest: Manifest, found: tuple[Anomaly, ...]) -> Manifest:
    reasons = (*manifest.backup.suspect_reasons, *(one.reason for one in found[:MAX_REASONS]))
    return replace(manifest, backup=replace(manifest.backup, status=BackupStatus.SUSPECT, suspect_reasons=reasons))
