"""Find backups: in this host's catalog, which fills itself when it is new, or in a storage itself.

What there is to be said on the way is yielded as remarks, in order, also when an error follows.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from continuum_tasks.errors import BackupNotFound, IntegrityError, StorageError, StorageUnreachable
from continuum_tasks.findings import Remark
from continuum_tasks.history.chain import is_anomalous, newest_first
from continuum_tasks.host import reindex
from continuum_tasks.host.catalog import fold
from continuum_tasks.model import Acceptance, Attestation, Backup, BackupId
from continuum_tasks.repository.repository import Repository
from continuum_tasks.restore.plan.point_in_time import newest_usable, of_one_host
from continuum_tasks.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupListing:
    """Backups, newest first, their verdicts folded in; `unread` says which storages could not be asked and why."""

    backups: tuple[Backup, ...]
    unread: tuple[StorageError, ...] = ()


def look_up(runtime: Runtime, *, storage: str = "") -> Generator[Remark, None, BackupListing]:
    """Return what the named storage holds, else what the catalog knows; remarks name what is damaged.

    A storage the catalog never saw, as after `metadata.db` was lost, is read first. Raises StorageError for a named storage.
    """
    if storage:
        found = yield from _stored(runtime.repository(storage))
        n_known = len(runtime.catalog.backups(storage=storage))
        if n_known and not found:
            raise StorageUnreachable(
                f"storage {storage}: is empty, but {n_known} backups were made there",
                hint="is its disk mounted, the bucket right? if they are gone: `continuum backup reindex --accept-empty`",
            )
        return BackupListing(backups=found)
    unread: list[StorageError] = []
    for settings in runtime.config.storages:
        try:
            yield from index_unseen(runtime, settings.name)
        except StorageError as err:
            unread.append(err)
    return BackupListing(backups=tuple(newest_first(runtime.catalog.backups())), unread=tuple(unread))


def index_unseen(runtime: Runtime, storage: str) -> Generator[Remark, None, None]:
    """Fill the catalog from a storage it never saw; nothing happens when it did. Raises StorageError."""
    if runtime.catalog.is_indexed(storage):
        return
    found = reindex.reindex_storage(runtime.repository(storage), site=runtime.site)
    if found.backups:
        yield Remark(text=f"the catalog did not know storage {storage}: read {len(found.backups)} backups from it")
    for text in found.damaged:
        yield Remark(text=text, warns=True)


def find_backup(runtime: Runtime, listing: BackupListing, backup_id: BackupId, *, storage: str = "") -> Backup:
    """Find one backup: in a listing, else (not when a storage was named) in the declared storages themselves.

    Raises BackupNotFound, or the StorageError of a storage that might hold it but could not be read.
    """
    known = [backup for backup in listing.backups if backup.id == backup_id]
    if known:
        return min(known, key=lambda backup: backup.storage != runtime.config.default_storage)
    unread = list(listing.unread)
    for settings in () if storage else runtime.config.storages:
        try:
            return read_backup(runtime, backup_id, storage=settings.name)
        except BackupNotFound:
            continue
        except StorageError as err:
            unread.append(err)
    if unread:
        raise unread[0]
    where = f" in storage {storage}" if storage else ""
    raise BackupNotFound(f"backup {backup_id}: not found{where}", hint="`continuum backup list` shows what there is")


def read_backup(runtime: Runtime, backup_id: BackupId, *, storage: str) -> Backup:
    """Read one backup from a storage, without its verdicts. Raises BackupNotFound, StorageError, ObjectDamaged."""
    repository = runtime.repository(storage)
    backup = repository.read_chain(backup_id, check_signature=False)[-1].backup
    if not is_anomalous(backup):
        return backup
    accepted = {record.backup_id for _, record in repository.acceptances() if isinstance(record, Acceptance)}
    return fold(backup, [], accepted=backup.id in accepted)


def locate(runtime: Runtime, backup_id: BackupId, *, storage: str = "") -> Generator[Remark, None, Backup]:
    """Find one backup to work on: in the named storage itself, else as `find_backup`. Raises BackupNotFound, StorageError."""
    if storage:
        return read_backup(runtime, backup_id, storage=storage)
    listing = yield from look_up(runtime)
    return find_backup(runtime, listing, backup_id)


def latest(runtime: Runtime, *, database: str = "", storage: str = "") -> Generator[Remark, None, Backup]:
    """Return the newest completed backup of a database (empty = the default one) whose whole chain is good.

    Raises BackupNotFound, UsageError when several other hosts keep one of that name, or the StorageError of a storage that
    might hold one but could not be read.
    """
    wanted = database or runtime.config.default_database
    listing = yield from look_up(runtime, storage=storage)
    mine = [backup for backup in listing.backups if backup.database == wanted]
    found = newest_usable(of_one_host(mine, host=runtime.config.host, database=wanted), storage=runtime.config.default_storage)
    if found is not None:
        return found
    if listing.unread:
        raise listing.unread[0]
    raise BackupNotFound(f"database {wanted}: no usable backup", hint="`continuum backup list` shows what there is")


def readable(found: Sequence[T | IntegrityError]) -> Generator[Remark, None, tuple[T, ...]]:
    """Sift what was read from a storage: what is damaged is remarked, the rest returned."""
    good: list[T] = []
    for one in found:
        if isinstance(one, IntegrityError):
            yield Remark(text=one.message, warns=True)
        else:
            good.append(one)
    return tuple(good)


def _stored(repository: Repository) -> Generator[Remark, None, tuple[Backup, ...]]:
    """Read a storage and nothing else; the catalog stays as it is."""
    by_id: dict[str, list[Attestation]] = {}
    verdicts = yield from readable([verdict for _, verdict in repository.attestations()])
    for verdict in sorted(verdicts, key=lambda verdict: verdict.at):
        by_id.setdefault(verdict.backup_id, []).append(verdict)
    acceptances = yield from readable([record for _, record in repository.acceptances()])
    accepted = {record.backup_id for record in acceptances}
    backups = []
    for manifest in repository.manifests():
        if isinstance(manifest, IntegrityError):
            yield Remark(text=manifest.message, warns=True)
        else:
            backup = manifest.backup
            backups.append(fold(backup, by_id.get(backup.id, []), accepted=backup.id in accepted))
    return tuple(newest_first(backups))
