"""Accept a backup that anomalies made suspect: somebody looked, and the database is as it should be."""

from __future__ import annotations

from dataclasses import dataclass

from continuum_tasks.backup.anomaly_watch import BY
from continuum_tasks.errors import UsageError
from continuum_tasks.history.chain import is_anomalous
from continuum_tasks.host import audit_trail
from continuum_tasks.host.audit_trail import AuditEntry
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import ANOMALY, Acceptance, Backup, BackupId, Cipher, Hold
from continuum_tasks.repository.repository import Repository
from continuum_tasks.retention import hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The backup as it counts now, the stored word for it, and the holds of the anomaly watch that ended with it."""

    backup: Backup
    acceptance: Acceptance
    released: tuple[BackupId, ...]


def accept_backup(backup_id: BackupId, reason: str, *, by: str, repository: Repository, site: HostContext) -> Accepted:
    """Store an acceptance beside the backup: from now on it is completed, and what later ones are compared with.

    Raises BackupNotFound, UsageError when there is nothing to accept or it is damaged, KeyringError when it cannot be signed.
    """
    backup = site.catalog.find(backup_id, storage=repository.name)
    manifest = repository.read_manifest(backup.database, backup.id)
    _check(backup, manifest.backup.suspect_reasons)
    acceptance = Acceptance(backup_id=backup.id, reason=reason, by=by, at=site.clock.now())
    repository.put_acceptance(backup.database, acceptance, key_id=backup.key_id or _key_id(site))
    site.catalog.accept(repository.name, acceptance)
    detail = f"{reason}; it was suspect: {'; '.join(manifest.backup.suspect_reasons)}"
    audit_trail.note_entry(AuditEntry(action="accept", subject=backup.id, by=by, detail=detail), site=site)
    released = _release(backup, by=by, repository=repository, site=site)
    now = site.catalog.find(backup_id, storage=repository.name)
    return Accepted(backup=now, acceptance=acceptance, released=released)


def _check(backup: Backup, reasons: tuple[str, ...]) -> None:
    if not is_anomalous(backup):
        state = "suspect for another reason than anomalies" if backup.suspect_reasons else str(backup.status)
        raise UsageError(f"backup {backup.id}: is {state}; there is nothing to accept", hint="see `continuum backup info`")
    damage = [reason for reason in reasons if not reason.startswith(ANOMALY)]
    if damage:
        raise UsageError(f"backup {backup.id}: is damaged, not only unusual: {damage[0]}", hint="make a new backup")


def _key_id(site: HostContext) -> str:
    """Return the key to sign with where the backup itself has none: unsigned words do not count while encryption is on."""
    return "" if site.settings.encryption is Cipher.NONE else site.settings.encryption_key_id


def _release(accepted: Backup, *, by: str, repository: Repository, site: HostContext) -> tuple[BackupId, ...]:
    """End the watch's own holds on backups of this database that no anomaly, not accepted yet, came after."""
    backups = site.catalog.backups(storage=repository.name, database=accepted.database)
    by_id = {backup.id: backup for backup in backups}
    open_since = max((backup.created_at for backup in backups if is_anomalous(backup)), default=None)
    found: list[Hold] = [h for h in site.catalog.holds(repository.name).values() if h.by == BY and h.backup_id in by_id]
    ended = [by_id[h.backup_id] for h in found if open_since is None or by_id[h.backup_id].created_at > open_since]
    for backup in ended:
        hold.release_backup(backup, by=by, repository=repository, site=site)
    return tuple(backup.id for backup in ended)
