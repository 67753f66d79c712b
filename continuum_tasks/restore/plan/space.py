"""Decide how a backup comes back: which layers, in which order, how many bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from continuum_tasks.history.chain import links
from continuum_tasks.model import Backup

SPACE_MARGIN_BYTES = 8 * 1024 * 1024  # room for directory blocks, the intent record and SQLite's own checks


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """`layers` oldest first; `fetch_bytes` is the most that is read from the storage, `space_bytes` what the target needs."""

    wanted: Backup
    layers: tuple[Backup, ...]
    fetch_bytes: int
    space_bytes: int


def plan_restore(wanted: Backup, backups: Sequence[Backup]) -> RestorePlan:
    """Plan the restore of one backup. Raises BackupNotFound when a link is gone."""
    layers = links(wanted, [b for b in backups if b.storage == wanted.storage])
    return RestorePlan(
        wanted=wanted,
        layers=layers,
        fetch_bytes=sum(layer.stored_size_bytes for layer in layers),
        space_bytes=wanted.original_size_bytes + SPACE_MARGIN_BYTES,
    )
