"""Backups as commands pick them: by chance, and the verdicts about one."""

from __future__ import annotations

import random
from collections.abc import Sequence

from continuum_tasks.cli.frame.output import print_remarks
from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history.chain import usable
from continuum_tasks.model import Attestation, Backup, DrillRecord
from continuum_tasks.restore.find_backup import readable
from continuum_tasks.runtime import Runtime
from continuum_tasks.verify.plan.sampling import pick_backups


def verdicts(runtime: Runtime, backup: Backup, *, stored: bool) -> tuple[Attestation, ...]:
    """Return the verdicts about a backup, oldest first: those `stored` beside it, else those the catalog knows."""
    if not stored:
        return tuple(runtime.catalog.attestations(backup.storage, backup.id))
    repository = runtime.repository(backup.storage)
    found = [verdict for _, verdict in repository.attestations(backup.database, backup.id)]
    return tuple(sorted(print_remarks(readable(found)), key=lambda verdict: verdict.at))


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
    return list(print_remarks(readable([record for _, record in runtime.repository(storage).drills()])))
