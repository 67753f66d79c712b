"""Rebuild this host's catalog of one storage from the manifests and verdicts in it. The storage is the truth."""

from __future__ import annotations

from dataclasses import dataclass

from continuum_tasks.actions.site import Site
from continuum_tasks.errors import IntegrityError, StorageUnreachable
from continuum_tasks.model import Attestation, Backup, Manifest
from continuum_tasks.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindexed:
    """What a storage holds, newest first; `damaged` names documents that could not be read, which count as not there."""

    backups: tuple[Backup, ...]
    damaged: tuple[str, ...]


def run(repository: Repository, *, site: Site, accept_empty: bool = False) -> Reindexed:
    """Make the catalog's rows of this storage what its manifests say.

    Raises StorageError when it cannot be read, StorageUnreachable when it holds nothing although the catalog knows backups
    in it (a disk that is not mounted looks like that) unless `accept_empty` says that they are really gone.
    """
    known = [backup.id for backup in site.catalog.backups(storage=repository.name)]
    manifests: list[Manifest] = []
    attestations: list[Attestation] = []
    damaged: list[str] = []
    for manifest in repository.manifests():
        if isinstance(manifest, IntegrityError):
            damaged.append(manifest.message)
        else:
            manifests.append(manifest)
    for _, verdict in repository.attestations():
        if isinstance(verdict, IntegrityError):
            damaged.append(verdict.message)
        else:
            attestations.append(verdict)
    if known and not manifests and not damaged and not accept_empty:
        raise StorageUnreachable(
            f"storage {repository.name}: holds no backup, but {len(known)} were made there",
            hint="is its disk mounted, its bucket the right one? if they are gone: `continuum backup reindex --accept-empty`",
        )
    attestations.sort(key=lambda verdict: verdict.at)
    site.catalog.replace_storage(repository.name, manifests, attestations, known=known, now=site.clock.now())
    return Reindexed(backups=tuple(site.catalog.backups(storage=repository.name)), damaged=tuple(damaged))
