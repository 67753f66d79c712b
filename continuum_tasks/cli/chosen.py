"""Which backup a command works on: an ID, the latest, or the last one at or before a time; said on standard error."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from continuum_tasks.cli import emit, shelf
from continuum_tasks.errors import UsageError
from continuum_tasks.model import Backup, BackupId, Status
from continuum_tasks.plan import pitr
from continuum_tasks.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The words that name a backup: exactly one of `backup_id`, `latest` and `pitr`; empty names are the defaults."""

    backup_id: BackupId | None
    latest: bool = False
    pitr: datetime | None = None
    database: str = ""
    storage: str = ""


def check(wanted: Wanted) -> None:
    """Refuse words that name no backup, or two. Raises UsageError."""
    n_named = (wanted.backup_id is not None) + wanted.latest + (wanted.pitr is not None)
    if n_named != 1:
        raise UsageError(
            "name one backup: an ID, --latest or --pitr TIME, and only one of them",
            hint="`continuum backup list` shows the ids and times",
        )
    if wanted.database and wanted.backup_id is not None:
        raise UsageError(
            "--database only means something with --latest or --pitr", hint="leave it out: the ID says which database"
        )


def choose(runtime: Runtime, wanted: Wanted) -> Backup:
    """Find the backup and say which it is. Raises BackupNotFound, or the StorageError of one that might hold it."""
    if wanted.backup_id is not None:
        backup = shelf.locate(runtime, wanted.backup_id, storage=wanted.storage)
    elif wanted.pitr is not None:
        backup = _at(runtime, wanted, wanted.pitr)
    else:
        backup = shelf.latest(runtime, database=wanted.database, storage=wanted.storage)
        emit.remark(f"latest: {backup.id}, created {emit.moment(backup.created_at)} UTC")
    if backup.status is Status.SUSPECT:
        reasons = f": {'; '.join(backup.suspect_reasons)}" if backup.suspect_reasons else ""
        emit.warn(f"backup {backup.id} is suspect{reasons}; an older one may be sound")
    return backup


def _at(runtime: Runtime, wanted: Wanted, when: datetime) -> Backup:
    database = wanted.database or runtime.config.default_database
    found = shelf.look(runtime, storage=wanted.storage)
    mine = [backup for backup in found.backups if backup.database == database]
    if found.unread and not pitr.candidates(mine):
        raise found.unread[0]
    for err in found.unread:
        emit.warn(f"{err.message}: a backup nearer to that time may be there")
    point = pitr.at(when, mine, database=database, storage=runtime.config.default_storage)
    backup = point.backup
    if when > runtime.site.clock.now():
        emit.warn(f"{emit.moment(when)} UTC is in the future: this is the last backup there is")
    emit.remark(
        f"--pitr: {backup.id}, the last usable backup at or before {emit.moment(when)} UTC: taken"
        f" {emit.moment(backup.created_at)} UTC, {emit.duration(point.behind_seconds)} before; changes in between are not in it"
    )
    return backup
