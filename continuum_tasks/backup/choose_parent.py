"""Decide, before the first byte is stored, what a new backup is: what it builds on, its id, and under which key.

No two backups of one storage share an id, whatever database or host they are of. Two databases that are the default one on
their hosts give ids without a name, so two snapshots of one second would meet. A create-only object reserves an id as long as
its run lasts. Those of killed runs are cleared by the next run of the same database and host, which holds their lock, or by
anyone after an hour.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

from continuum_tasks.assembly import page_digests
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import (
    BackupNotFound,
    IntegrityError,
    ObjectExists,
    ObjectMissing,
    StorageError,
    StorageUnreachable,
)
from continuum_tasks.history import chain
from continuum_tasks.host import reindex
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, Cipher, Strategy, WrappedKey
from continuum_tasks.repository.repository import Identity, Repository, key_context
from continuum_tasks.sqlite.snapshot import Staged

RESERVED_IDS = "locks/.ids/"  # no database's name begins with a dot
RESERVED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRequest:
    """What to back up and how. `is_default`: this is the database whose ids carry no name."""

    database: DatabaseConfig
    strategy: Strategy
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentChoice:
    """What a backup builds on, for pages of `page_size` bytes; `parent_digests` is None for a full, else a file of them."""

    choice: chain.Choice
    page_size: int
    parent_digests: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingBackup:
    """A backup that does not exist yet."""

    id: BackupId
    base_id: BackupId
    storage: str
    database: str
    identity: Identity
    chosen: ParentChoice
    key_id: str
    wrapped_key: WrappedKey | None

    @property
    def choice(self) -> chain.Choice:
        return self.chosen.choice

    @property
    def parent_digests(self) -> Path | None:
        return self.chosen.parent_digests

    @property
    def cipher(self) -> Cipher:
        return Cipher.NONE if self.wrapped_key is None else Cipher.AES_256_GCM


def check_there(repository: Repository, *, site: HostContext) -> None:
    """Refuse, before anything is written, a storage that lost all that was made there. Raises StorageUnreachable."""
    n_known = len(site.catalog.backups(storage=repository.name))
    if n_known and not any(True for _ in repository.storage.list("repository.json")) and not repository.manifest_keys():
        raise StorageUnreachable(
            f"storage {repository.name}: is empty, but {n_known} backups were made there",
            hint="is its disk mounted, the bucket right? if they are gone: `continuum backup reindex --accept-empty`",
        )


def prepare_backup(
    request: BackupRequest, staged: Staged, chosen: ParentChoice, *, repository: Repository, site: HostContext
) -> PendingBackup:
    """Give a staged copy, whose pages are of the size that was chosen for, an id and a key. The first thing to be stored.

    Raises KeyMissing when the configured key is not there, StorageError when the storage cannot be read.
    """
    choice, identity = chosen.choice, _identity(repository, site)
    backup_id = _free_id(request, staged, choice.strategy, repository=repository, site=site)
    base_id = backup_id if choice.parent is None else choice.parent.base_id
    wrapped = _wrapped_key(choice.parent, identity, base_id, repository=repository, site=site)
    return PendingBackup(
        id=backup_id,
        base_id=base_id,
        storage=repository.name,
        database=request.database.name,
        identity=identity,
        chosen=chosen,
        key_id="" if wrapped is None else wrapped.key_id,
        wrapped_key=wrapped,
    )


def choose_parent(
    request: BackupRequest, page_size: int, scratch: Path, *, repository: Repository, site: HostContext
) -> ParentChoice:
    """Choose what to build on; whatever is wrong with the chain makes it a full whose reason says so. Stores nothing.

    Raises StorageError.
    """
    if _is_behind(request, repository=repository, site=site):
        reindex.reindex_storage(repository, site=site)
    requirements = chain.Requirements(
        host=site.host, page_size=page_size, cipher=site.settings.encryption, key_ids=repository.key_ids()
    )
    backups = site.catalog.backups(storage=repository.name, database=request.database.name)
    choice = chain.choose_parent_of(request.strategy, backups, requirements=requirements)
    if choice.parent is None:
        return ParentChoice(choice=choice, page_size=page_size, parent_digests=None)
    try:
        digests = _parent_digests(choice.parent, backups, scratch, repository=repository, site=site)
    except (IntegrityError, ObjectMissing, BackupNotFound) as err:
        choice = chain.Choice(strategy=Strategy.FULL, parent=None, reason=f"{choice.parent.id} cannot be built on: {err}")
        return ParentChoice(choice=choice, page_size=page_size, parent_digests=None)
    return ParentChoice(choice=choice, page_size=page_size, parent_digests=digests)


def _identity(repository: Repository, site: HostContext) -> Identity:
    """Return whose objects these are; the first backup of a storage, whose state is at hand by now, makes the repository."""
    proposed = Identity(repository_id=str(uuid.UUID(bytes=site.random_bytes(16), version=4)), created_at=site.clock.now())
    return repository.ensure_identity(proposed, n_known=len(site.catalog.backups(storage=repository.name)))


def _is_behind(request: BackupRequest, *, repository: Repository, site: HostContext) -> bool:
    """Tell whether the storage has other backups of this database than the catalog: `metadata.db` was lost, or a run died."""
    if not site.catalog.is_indexed(repository.name):
        return True
    known = {backup.id for backup in site.catalog.backups(storage=repository.name, database=request.database.name)}
    stored = {_id_in(key) for key in repository.manifest_keys(request.database.name)}
    return known != stored


def _parent_digests(parent: Backup, backups: list[Backup], scratch: Path, *, repository: Repository, site: HostContext) -> Path:
    """Find the parent's page digests, after proving by one listing that its whole chain is still stored."""
    layers = chain.links(parent, backups)
    stored = repository.stored(parent)
    for layer in layers:
        for key, size_bytes in site.catalog.objects(layer).items():
            if key not in stored or stored[key].size_bytes != size_bytes:
                raise ObjectMissing(f"object {key}: not stored any more as it was", hint="run `continuum backup verify`")
    if not repository.has_manifest(parent.database, parent.id):
        raise BackupNotFound(f"backup {parent.id}: its manifest is gone", hint="run `continuum backup reindex`")
    found = page_digests.cached(parent, site)
    if found is not None:
        return found
    manifests = [repository.read_manifest(layer.database, layer.id) for layer in layers]
    return page_digests.rebuild(manifests, repository, scratch / "parent.digests")


def _free_id(
    request: BackupRequest, staged: Staged, strategy: Strategy, *, repository: Repository, site: HostContext
) -> BackupId:
    suffix = "" if request.is_default else request.database.name
    taken = {backup.id for backup in site.catalog.backups()} | {_id_in(key) for key in repository.manifest_keys()}
    holder, nonce = f"{site.contender().owner}/{request.database.name}", site.random_bytes(8).hex()
    candidates = (BackupId.make(strategy, staged.taken_at, suffix=suffix, n=n) for n in count(1))
    return next(c for c in candidates if c not in taken and reserve(c, holder, nonce, repository=repository))


def _id_in(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")


def _wrapped_key(
    parent: Backup | None, identity: Identity, base_id: BackupId, *, repository: Repository, site: HostContext
) -> WrappedKey | None:
    """Return the chain's data key as its manifests carry it: the parent's, or a new random one for a full."""
    if parent is not None:
        return repository.read_manifest(parent.database, parent.id).wrapped_key
    if site.settings.encryption is Cipher.NONE:
        return None
    return repository.wrap(
        site.settings.encryption_key_id,
        site.random_bytes(32),
        nonce=site.random_bytes(12),
        context=key_context(identity.repository_id, base_id),
    )


def reserve(backup_id: BackupId, holder: str, nonce: str, *, repository: Repository) -> bool:
    """Take an id for the run `nonce` of `holder` (a database of a host); False when another run has it. Raises StorageError."""
    storage, key = repository.storage, f"{RESERVED_IDS}{backup_id}"
    try:
        storage.put(key, f"{holder} {nonce}".encode(), only_new=True)
    except ObjectExists:
        return False
    now = storage.stat(key).modified_at
    for info in list(storage.list(RESERVED_IDS)):
        if info.key != key and (now - info.modified_at > RESERVED_FOR or _is_of(holder, info.key, repository)):
            storage.delete(info.key)
    return True


def _is_of(holder: str, key: str, repository: Repository) -> bool:
    try:
        return repository.storage.get(key).startswith(f"{holder} ".encode())
    except ObjectMissing:
        return False  # its run ended


@contextlib.contextmanager
def reserved_until_stored(backup_id: BackupId, *, repository: Repository) -> Iterator[None]:
    """Give the id back at the end: by then its manifest has it, or nobody needs it."""
    try:
        yield
    finally:
        with contextlib.suppress(StorageError):  # what is left is cleared by a later run
            repository.storage.delete(f"{RESERVED_IDS}{backup_id}")
