"""Decide how a backup comes back: which layers, in which order, how many bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.model import Backup, Manifest
from continuum_tasks.plan.chain import links

SPACE_MARGIN_BYTES = 8 * 1024 * 1024  # room for directory blocks, the intent record and SQLite's own checks


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """`layers` oldest first; `fetch_bytes` is the most that is read from the storage, `space_bytes` what the target needs."""

    wanted: Backup
    layers: tuple[Backup, ...]
    fetch_bytes: int
    space_bytes: int


def plan(wanted: Backup, backups: Sequence[Backup]) -> RestorePlan:
    """Plan the restore of one backup. Raises BackupNotFound when a link is gone."""
    layers = links(wanted, [b for b in backups if b.storage == wanted.storage])
    return RestorePlan(
        wanted=wanted,
        layers=layers,
        fetch_bytes=sum(layer.stored_size_bytes for layer in layers),
        space_bytes=wanted.original_size_bytes + SPACE_MARGIN_BYTES,
    )


def check_chain(manifests: Sequence[Manifest]) -> None:
    """Refuse manifests that do not form one chain, its snapshot layer first. Raises BackupNotFound naming the odd one.

    The chain's name (`base_id`) is its first full's; that may have expired, when a later link was rolled forward.
    """
    parent = None
    for manifest in manifests:
        backup = manifest.backup
        same = backup.base_id == manifests[0].backup.base_id and manifest.repository_id == manifests[0].repository_id
        if backup.parent_id != parent or not same or backup.page_size != manifests[0].backup.page_size:
            raise BackupNotFound(
                f"backup {backup.id}: does not continue the chain it is listed in", hint="run `continuum backup reindex`"
            )
        parent = backup.id
