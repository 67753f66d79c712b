"""Which backups have anomalies that nobody has accepted yet. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from continuum_tasks.history.chain import usable
from continuum_tasks.model import ANOMALY, Backup, BackupStatus


def is_anomalous(backup: Backup) -> bool:
    """Tell whether anomalies, not accepted yet, are among what makes this backup suspect."""
    return backup.status is BackupStatus.SUSPECT and any(reason.startswith(ANOMALY) for reason in backup.suspect_reasons)


def holding(backups: Sequence[Backup]) -> tuple[Backup, ...]:
    """Return the anomalous backups, newest first, that no clean one of the same database and storage came after."""
    good = {backup.id for backup in usable(backups)}
    last = next((number for number, backup in enumerate(backups) if backup.id in good), len(backups))
    return tuple(backup for backup in backups[:last] if is_anomalous(backup))
