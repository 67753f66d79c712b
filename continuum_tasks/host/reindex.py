"""Rebuild this host's catalog of one storage from the manifests and verdicts in it. The storage is the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from continuum_tasks.errors import IntegrityError, StorageUnreachable
from continuum_tasks.host.catalog import Contents
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, Manifest
from continuum_tasks.repository.repository import Repository

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindexed:
    """What a storage holds, newest first; `damaged` names documents that could not be read, which count as not there."""

    backups: tuple[Backup, ...]
    damaged: tuple[str, ...]


def reindex_storage(repository: Repository, *, site: HostContext, accept_empty: bool = False) -> Reindexed:
    """Make the catalog's rows of this storage what its manifests say.

    Raises StorageError when it cannot be read, StorageUnreachable when it holds nothing although the catalog knows backups
    in it (a disk that is not mounted looks like that) unless `accept_empty` says that they are really gone.
    """
    known = [backup.id for backup in site.catalog.backups(storage=repository.name)]
    manifests: list[Manifest] = []
    damaged: list[str] = []
    for manifest in repository.manifests():
        if isinstance(manifest, IntegrityError):
            damaged.append(manifest.message)
        else:
            manifests.append(manifest)
    attestations = _good(repository.attestations(), damaged)
    holds = _good(repository.holds(), damaged)
    drills = _good(repository.drills(), damaged)
    contents = Contents(
        manifests=manifests,
        attestations=attestations,
        holds=holds,
        drills=drills,
        acceptances=_good(repository.acceptances(), damaged),
    )
    if known and not manifests and not damaged and not accept_empty:
        raise StorageUnreachable(
            f"storage {repository.name}: holds no backup, but {len(known)} were made there",
            hint="is its disk mounted, its bucket the right one? if they are gone: `continuum backup reindex --accept-empty`",
        )
    site.catalog.replace_storage(repository.name, contents, known=known, now=site.clock.now())
    return Reindexed(backups=tuple(site.catalog.backups(storage=repository.name)), damaged=tuple(damaged))


def _good(records: Iterator[tuple[str, T | IntegrityError]], damaged: list[str]) -> list[T]:
    """Return the records that could be read; the others are named in `damaged`."""
    good: list[T] = []
    for _, record in records:
        if isinstance(record, IntegrityError):
            damaged.append(record.message)
        else:
            good.append(record)
    return good
