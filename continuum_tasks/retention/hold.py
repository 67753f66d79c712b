"""Hold a backup, so that no policy expires it or anything it needs; and release it."""

from __future__ import annotations

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.host import audit_trail
from continuum_tasks.host.audit_trail import AuditEntry
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, Hold
from continuum_tasks.repository.repository import Repository


def hold_backup(backup: Backup, reason: str, *, by: str, repository: Repository, site: HostContext) -> Hold:
    """Hold a backup; holding again replaces the reason. No lock is taken: an expiry at work looks before each deletion.

    Raises BackupNotFound when the backup has expired meanwhile, StorageError.
    """
    made = Hold(backup_id=backup.id, reason=reason, by=by, at=site.clock.now())
    repository.put_hold(backup.database, made, key_id=backup.key_id)
    if not repository.has_manifest(backup.database, backup.id):
        repository.delete_hold(backup.database, backup.id)
        raise BackupNotFound(f"backup {backup.id}: it has expired", hint="`continuum backup list` shows what there is")
    site.catalog.hold(backup.storage, made)
    audit_trail.note_entry(AuditEntry(action="hold", subject=backup.id, by=by, detail=reason), site=site)
    return made


def release_backup(backup: Backup, *, by: str, repository: Repository, site: HostContext) -> Hold | None:
    """Release a backup; returns the hold it had, None when it had none. Raises StorageError."""
    held = next((h for _, h in repository.holds() if isinstance(h, Hold) and h.backup_id == backup.id), None)
    repository.delete_hold(backup.database, backup.id)
    site.catalog.release(backup.storage, backup.id)
    if held is not None:
        audit_trail.note_entry(
            AuditEntry(action="release", subject=backup.id, by=by, detail=f"was held: {held.reason}"), site=site
        )
    return held
