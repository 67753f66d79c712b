"""Pick backups by chance, for drills: those that were never drilled first."""

from __future__ import annotations

import random
from collections.abc import Sequence

from continuum_tasks.cli.emit import warn
from continuum_tasks.errors import BackupNotFound, IntegrityError
from continuum_tasks.model import Backup, DrillRecord
from continuum_tasks.plan.chain import usable
from continuum_tasks.plan.drill import pick
from continuum_tasks.runtime import Runtime


def picked(runtime: Runtime, backups: Sequence[Backup], *, n: int, storage: str) -> list[Backup]:
    """Return `n` of the backups; the named storage itself is asked what was drilled, else the catalog."""
    chance = random.Random(runtime.site.random_bytes(8))  # noqa: S311 - chance, no secret
    return pick(backups, _drills(runtime, storage=storage), n=n, chance=chance)


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
