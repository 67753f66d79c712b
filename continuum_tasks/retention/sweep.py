"""Find and remove what lies in a repository and belongs to no backup: what killed backups, expiries and roll-forwards left.

Ages are read off the storage's own clock: chunks of a backup that is being made are young, and its manifest comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from continuum_tasks.host.site import HostContext
from continuum_tasks.repository.repository import Repository
from continuum_tasks.storage.protocol import Storage

YOUNGEST = timedelta(days=1)  # longer than any task may run
_RECORDS = ("attestations", "drills", "holds", "accepted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    key: str
    size_bytes: int


def clock_of(storage: Storage, *, nonce: str) -> datetime:
    """Return what time it is for the storage: the stamp of an object that comes and goes. Raises StorageError."""
    key = f".probe/clock-{nonce}"
    storage.put(key, b"")
    try:
        return storage.stat(key).modified_at
    finally:
        storage.delete(key)


def find_orphans(database: str, repository: Repository, *, site: HostContext, now: datetime) -> tuple[Orphan, ...]:
    """Return the orphans of one database older than a day at `now`, the storage's time; the catalog must be up to date."""
    backups = site.catalog.backups(storage=repository.name, database=database)
    named = {key for backup in backups for key in site.catalog.objects(backup)}
    known = {backup.id for backup in backups}
    listed = {key.rpartition("/")[2].removesuffix(".json") for key in repository.manifest_keys(database)}
    unread = listed - known  # of a manifest that is there but was not read nothing is an orphan
    found = [
        info for info in repository.layer_objects(database) if info.key not in named and info.key.split("/")[3] not in unread
    ]
    for kind in _RECORDS:
        for info in repository.storage.list(f"{kind}/{database}/"):
            if info.key.split("/")[2].removesuffix(".json") not in listed:
                found.append(info)
    return tuple(Orphan(key=info.key, size_bytes=info.size_bytes) for info in found if now - info.modified_at > YOUNGEST)


def remove_orphans(orphans: Sequence[Orphan], repository: Repository) -> None:
    """Delete orphans. Raises StorageError."""
    for orphan in orphans:
        repository.storage.delete(orphan.key)
