"""Decide which backups to roll forward: rewritten as a snapshot layer, one needs nothing below it any more. Pure.

Rolling one costs a whole layer and frees the run of links below it that stand for nothing else. It is worth that when at
least a quarter of what is written comes back as free space, or when a link below is older than anything may be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from continuum_tasks.model import Backup, BackupId
from continuum_tasks.retention.plan.keep_reasons import Candidates, Policy, is_too_old

LEAST_SAVING = 4  # a roll-forward must free 1/4 of what it writes: below that, daily runs would rewrite fulls for crumbs


@dataclass(frozen=True, slots=True, kw_only=True)
class RollForwardPlan:
    """`backup` gets a snapshot layer of about `layer_bytes`; then `frees` may go, dependents first. `saves_bytes` may be
    negative where age, not space, is the reason.
    """

    backup: Backup
    frees: tuple[Backup, ...]
    layer_bytes: int
    saves_bytes: int
    reason: str


class _Tree:
    """The kept backups and what each needs, as it changes with every roll-forward."""

    def __init__(self, backups: Sequence[Backup], kept: Collection[BackupId]) -> None:
        self.by_id = {b.id: b for b in backups}
        self.parent = {b.id: b.parent_id for b in backups if b.id in kept}
        self.n_needed_by: dict[BackupId, int] = {}
        for parent in self.parent.values():
            if parent is not None:
                self.n_needed_by[parent] = self.n_needed_by.get(parent, 0) + 1
        self.ratio: dict[BackupId, float] = {}

    def below(self, backup_id: BackupId, wanted: Collection[BackupId]) -> tuple[Backup, ...]:
        """Return the links that stand for this backup alone, nearest first."""
        found = []
        at = self.parent[backup_id]
        while at is not None and at not in wanted and self.n_needed_by[at] == 1:
            found.append(self.by_id[at])
            at = self.parent[at]
        return tuple(found)

    def roll(self, backup_id: BackupId, frees: Sequence[Backup]) -> None:
        rest = self.parent[frees[-1].id]
        if rest is not None:
            self.n_needed_by[rest] -= 1
        for link in frees:
            del self.parent[link.id]
        self.parent[backup_id] = None

    def snapshot_bytes(self, backup: Backup) -> int:
        """Estimate what all pages of a backup take: packed as its chain's snapshot layer is."""
        path = [backup.id]
        while path[-1] not in self.ratio:
            parent = self.by_id[path[-1]].parent_id
            if parent is None:
                base = self.by_id[path[-1]]
                self.ratio[base.id] = base.stored_size_bytes / base.layer_size_bytes if base.layer_size_bytes else 1.0
            else:
                path.append(parent)
        for backup_id in path:
            self.ratio[backup_id] = self.ratio[path[-1]]
        return round(backup.original_size_bytes * self.ratio[backup.id])


def roll_forwards(
    standing: Candidates, wanted: Mapping[BackupId, object], kept: Collection[BackupId], *, policy: Policy, now: datetime
) -> tuple[RollForwardPlan, ...]:
    """Return the roll-forwards that are worth it, oldest first; a later one may rely on those before it.

    Only what is proven is rolled: an unverified layer is the one thing a verification could still learn from.
    """
    tree = _Tree(standing.backups, kept)
    waiting = [b for b in reversed(standing.proven) if b.id in wanted and b.parent_id is not None]
    found: list[RollForwardPlan] = []
    while True:
        rolled = [r for b in waiting if (r := _consider(b, tree, wanted, policy=policy, now=now)) is not None]
        if not rolled:
            return tuple(found)
        found += rolled
        done = {r.backup.id for r in rolled}
        waiting = [b for b in waiting if b.id not in done]


def _consider(
    backup: Backup, tree: _Tree, wanted: Mapping[BackupId, object], *, policy: Policy, now: datetime
) -> RollForwardPlan | None:
    frees = tree.below(backup.id, wanted)
    if not frees:
        return None
    layer_bytes = tree.snapshot_bytes(backup)
    saves_bytes = sum(link.stored_size_bytes for link in frees) + backup.stored_size_bytes - layer_bytes
    too_old = any(is_too_old(link, policy, now) for link in frees)
    if saves_bytes * LEAST_SAVING < layer_bytes and not too_old:
        return None
    tree.roll(backup.id, frees)
    why = "saves space" if saves_bytes * LEAST_SAVING >= layer_bytes else "max_age"
    what = "1 link below it stands" if len(frees) == 1 else f"{len(frees)} links below it stand"
    return RollForwardPlan(
        backup=backup,
        frees=frees,
        layer_bytes=layer_bytes,
        saves_bytes=saves_bytes,
        reason=f"{what} for nothing else ({why})",
    )
