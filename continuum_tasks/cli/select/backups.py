"""What backups there are: from this host's catalog, which fills itself when it is new, or from a storage itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from continuum_tasks.cli.frame.output import remark, warn
from continuum_tasks.errors import BackupNotFound, IntegrityError, StorageError, StorageUnreachable, UsageError
from continuum_tasks.history.chain import is_anomalous, made_on, newest_first, usable
from continuum_tasks.host import reindex
from continuum_tasks.host.catalog import fold
from continuum_tasks.model import Acceptance, Attestation, Backup, BackupId, DrillRecord
from continuum_tasks.repository.repository import Repository
from continuum_tasks.runtime import Runtime
from continuum_tasks.verify.plan.sampling import pick_backups


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupListing:
    """Backups, newest first, their verdicts folded in; `unread` says which storages could not be asked and why."""

    backups: tuple[Backup, ...]
    unread: tuple[StorageError, ...] = ()


def look_up(runtime: Runtime, *, storage: str = "") -> BackupListing:
    """Return what the named storage holds, else what the catalog knows; says on standard error what is damaged.

    A storage the catalog never saw, as after `metadata.db` was lost, is read first. Raises StorageError for a named storage.
    """
    if storage:
        found = _stored(runtime.repository(storage))
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
            index_unseen(runtime, settings.name)
        except StorageError as err:
            unread.append(err)
    return BackupListing(backups=tuple(newest_first(runtime.catalog.backups())), unread=tuple(unread))


def index_unseen(runtime: Runtime, storage: str) -> None:
    """Fill the catalog from a storage it never saw; nothing happens when it did. Raises StorageError."""
    if runtime.catalog.is_indexed(storage):
        return
    found = reindex.reindex_storage(runtime.repository(storage), site=runtime.site)
    if found.backups:
        remark(f"the catalog did not know storage {storage}: read {len(found.backups)} backups from it")
    for text in found.damaged:
        warn(text)


def find_backup(runtime: Runtime, shelf: BackupListing, backup_id: BackupId, *, storage: str = "") -> Backup:
    """Find one backup: on the shelf, else (not when a storage was named) in the declared storages themselves.

    Raises BackupNotFound, or the StorageError of a storage that might hold it but could not be read.
    """
    known = [backup for backup in shelf.backups if backup.id == backup_id]
    if known:
        return min(known, key=lambda backup: backup.storage != runtime.config.default_storage)
    unread = list(shelf.unread)
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


def locate(runtime: Runtime, backup_id: BackupId, *, storage: str = "") -> Backup:
    """Find one backup to work on: in the named storage itself, else as `find_backup`. Raises BackupNotFound, StorageError."""
    if storage:
        return read_backup(runtime, backup_id, storage=storage)
    return find_backup(runtime, look_up(runtime), backup_id)


def latest(runtime: Runtime, *, database: str = "", storage: str = "") -> Backup:
    """Return the newest completed backup of a database (empty = the default one) whose whole chain is good.

    Raises BackupNotFound, or the StorageError of a storage that might hold one but could not be read.
    """
    wanted = database or runtime.config.default_database
    shelf = look_up(runtime, storage=storage)
    mine = _of_one_host([backup for backup in shelf.backups if backup.database == wanted], runtime, database=wanted)
    names = {backup.storage for backup in mine}
    candidates = [backup for name in sorted(names) for backup in usable([b for b in mine if b.storage == name])]
    if candidates:
        newest = newest_first(candidates)[0]
        copies = [backup for backup in candidates if backup.id == newest.id]
        return next((one for one in copies if one.storage == runtime.config.default_storage), newest)
    if shelf.unread:
        raise shelf.unread[0]
    raise BackupNotFound(f"database {wanted}: no usable backup", hint="`continuum backup list` shows what there is")


def _of_one_host(backups: list[Backup], runtime: Runtime, *, database: str) -> list[Backup]:
    """Return this host's backups; a host that has none, as after a disaster, gets those of the only other one.

    Raises UsageError when there are several others: their databases share no more than a name.
    """
    own = made_on(runtime.config.host, backups)
    hosts = sorted({backup.host for backup in backups})
    if own or len(hosts) <= 1:
        return own or backups
    raise UsageError(
        f"database {database}: hosts {', '.join(hosts)} back up one of that name there; this host is {runtime.config.host}",
        hint="name the backup: `continuum backup list --format json` shows the host of each",
    )


def verdicts(runtime: Runtime, backup: Backup, *, stored: bool) -> tuple[Attestation, ...]:
    """Return the verdicts about a backup, oldest first: those `stored` beside it, else those the catalog knows."""
    if not stored:
        return tuple(runtime.catalog.attestations(backup.storage, backup.id))
    repository = runtime.repository(backup.storage)
    return _sound([verdict for _, verdict in repository.attestations(backup.database, backup.id)])


def _stored(repository: Repository) -> tuple[Backup, ...]:
    """Read a storage and nothing else; the catalog stays as it is."""
    by_id: dict[str, list[Attestation]] = {}
    for verdict in _sound([verdict for _, verdict in repository.attestations()]):
        by_id.setdefault(verdict.backup_id, []).append(verdict)
    accepted = {record.backup_id for record in _readable([record for _, record in repository.acceptances()])}
    backups = []
    for manifest in repository.manifests():
        if isinstance(manifest, IntegrityError):
            warn(manifest.message)
        else:
            backup = manifest.backup
            backups.append(fold(backup, by_id.get(backup.id, []), accepted=backup.id in accepted))
    return tuple(newest_first(backups))


def _readable(found: Sequence[Acceptance | IntegrityError]) -> tuple[Acceptance, ...]:
    for record in found:
        if isinstance(record, IntegrityError):
            warn(record.message)
    return tuple(record for record in found if isinstance(record, Acceptance))


def _sound(found: Sequence[Attestation | IntegrityError]) -> tuple[Attestation, ...]:
    for verdict in found:
        if isinstance(verdict, IntegrityError):
            warn(verdict.message)
    return tuple(sorted((v for v in found if isinstance(v, Attestation)), key=lambda verdict: verdict.at))


def picked(runtime: Runtime, backups: Sequence[Backup], *, n: int, storage: str) -> list[Backup]:
    """Return `n` of the backups; the named storage itself is asked what was drilled, else the catalog."""
    chance = random.Random(runtime.site.random_bytes(8))  # noqa: S311 - chance, no secret
    return pick_backups(backups, _drills(runtime, storage=storage), n=n, chance=chance)


def one_usable(runtime: Runtime, backups: Sequence[Backup], *, storage: str) -> Backup:
    """Return one backup whose whole chain is good. Raises BackupNotFound."""
    names = sorted({backup.storage for backup in backups})
    points = [backup for name in names for backup in usable([b for b in backups if b.storage == name])]
    if not points:
        raise BackupNotFound("no usable backup to drill", hint="`continuum backup list` shows what there is")
    return picked(runtime, points, n=1, storage=storage)[0]


def _drills(runtime: Runtime, *, storage: str) -> list[DrillRecord]:
    if not storage:
        return [record for settings in runtime.config.storages for record in runtime.catalog.drills(settings.name)]
    found = []
    for _, record in runtime.repository(storage).drills():
        if isinstance(record, IntegrityError):
            warn(record.message)
        else:
            found.append(record)
    return found
