"""Decide which of many backups to verify how, so that a week of increments costs hours and not months. Pure.

A chain of n links restored link by link reads on the order of n squared objects. So of each chain a few are restored,
evenly spread and always its first and its newest, and once the stored bytes of every link are read: what a restore of any
of the others would need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from continuum_tasks.model import Backup, BackupId, DrillRecord, Rehearsal

PER_CHAIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyStep:
    """Verify this backup; with `covers` also read every stored byte of its chain, which speaks for these links."""

    backup: Backup
    covers: tuple[BackupId, ...] = ()


def steps(backups: Sequence[Backup], *, per_chain: int) -> tuple[VerifyStep, ...]:
    """Return how to verify these backups, newest chain first; `per_chain` (1 or more) are restored of each."""
    found: list[VerifyStep] = []
    seen: set[tuple[str, BackupId]] = set()
    for newest in newest_of_each_chain(backups):
        path = [b for b in _path(newest, backups) if (b.storage, b.id) not in seen]
        seen |= {(b.storage, b.id) for b in path}
        chosen = _spread(path, per_chain)
        left = tuple(b.id for b in path if b not in chosen)
        found += [VerifyStep(backup=b, covers=left if b is newest else ()) for b in reversed(chosen)]
    return tuple(found)


def newest_of_each_chain(backups: Sequence[Backup]) -> list[Backup]:
    """Return the backups that no other of these builds on, newest first: a differential ends a chain of its own."""
    parents = {(b.storage, b.parent_id) for b in backups}
    ends = [b for b in backups if (b.storage, b.id) not in parents]
    return sorted(ends, key=lambda b: (b.created_at, b.id), reverse=True)


def _path(newest: Backup, backups: Sequence[Backup]) -> list[Backup]:
    """Return `newest` and what it builds on as far as it is among these, oldest first; a loop ends where it began."""
    by_id: dict[BackupId | None, Backup] = {b.id: b for b in backups if b.storage == newest.storage}
    path = [newest]
    while (parent := by_id.pop(path[-1].parent_id, None)) is not None:
        path.append(parent)
    return path[::-1]


def _spread(path: Sequence[Backup], n: int) -> list[Backup]:
    """Return `n` of them, evenly spread, the last always and the first where two fit."""
    if len(path) <= n:
        return list(path)
    if n == 1:
        return [path[-1]]
    return [path[round(i * (len(path) - 1) / (n - 1))] for i in range(n)]


_NEVER = datetime.min.replace(tzinfo=UTC)


def pick_backups(backups: Sequence[Backup], drills: Sequence[DrillRecord], *, n: int, chance: Random) -> list[Backup]:
    """Return `n` of the backups, or all when there are fewer; the same seed picks the same."""
    last: dict[tuple[str, str], datetime] = {}
    for record in drills:
        if record.kind is Rehearsal.DRILL:
            key = (record.database, record.backup_id)
            last[key] = max(record.at, last.get(key, _NEVER))
    order = {id(backup): chance.random() for backup in backups}
    ranked = sorted(backups, key=lambda b: (last.get((b.database, b.id), _NEVER), order[id(b)]))
    return ranked[:n]
