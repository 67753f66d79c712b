"""Decide which backups to drill: chance among those never drilled, then those whose last drill is longest ago. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

from continuum_tasks.model import Backup, DrillRecord, Rehearsal

_NEVER = datetime.min.replace(tzinfo=UTC)


def pick(backups: Sequence[Backup], drills: Sequence[DrillRecord], *, n: int, chance: Random) -> list[Backup]:
    """Return `n` of the backups, or all when there are fewer; the same seed picks the same."""
    last: dict[tuple[str, str], datetime] = {}
    for record in drills:
        if record.kind is Rehearsal.DRILL:
            key = (record.database, record.backup_id)
            last[key] = max(record.at, last.get(key, _NEVER))
    order = {id(backup): chance.random() for backup in backups}
    ranked = sorted(backups, key=lambda b: (last.get((b.database, b.id), _NEVER), order[id(b)]))
    return ranked[:n]
