"""Decide which backup stands for an instant: the last usable one at or before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history.chain import usable
from continuum_tasks.model import Backup


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPoint:
    """The backup that stands for an instant; its snapshot was taken `behind_seconds` before it."""

    backup: Backup
    behind_seconds: float


def candidates(backups: Sequence[Backup]) -> tuple[Backup, ...]:
    """Return the usable backups of one database, oldest first; chains are judged within each storage."""
    names = {backup.storage for backup in backups}
    found = [good for name in names for good in usable([b for b in backups if b.storage == name])]
    return tuple(sorted(found, key=lambda backup: (backup.created_at, backup.storage)))


def choose_point(when: datetime, backups: Sequence[Backup], *, database: str, storage: str) -> ChosenPoint:
    """Choose among one database's backups; of several copies of the same instant that in `storage`.

    Raises BackupNotFound naming the range of instants there are when none is usable or all are later.
    """
    good = candidates(backups)
    if not good:
        raise BackupNotFound(f"database {database}: no usable backup", hint="`continuum backup list` shows what there is")
    before = [backup for backup in good if backup.created_at <= when]
    if not before:
        first, last = good[0].created_at.isoformat(), good[-1].created_at.isoformat()
        raise BackupNotFound(
            f"database {database}: no usable backup at or before {when.isoformat()}",
            hint=f"there are {len(good)}, from {first} to {last}: name a time from {first} on",
        )
    chosen = max(before, key=lambda backup: (backup.created_at, backup.storage == storage))
    return ChosenPoint(backup=chosen, behind_seconds=(when - chosen.created_at).total_seconds())
