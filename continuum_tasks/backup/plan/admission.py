"""Decide whether a backup that was asked for should be made now. Pure: rows and a clock in, a refusal or None out.

`--force` passes every gate. A manual run meets `recent` and `anomalous`, a scheduled one `recent` and `failing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from continuum_tasks.history.chain import holding
from continuum_tasks.model import Backup, BackupSchedule
from continuum_tasks.units import show_seconds

N_FAILURES = 3
BACK_OFF = timedelta(minutes=15)  # a cause that was removed is noticed that late at the most


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why no backup is made now, and what to do."""

    text: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """One run that ended. `error` is empty for a success; `transient`: trying again may help."""

    at: datetime
    error: str = ""
    transient: bool = False


def recent(backups: Sequence[Backup], *, min_interval_seconds: int, now: datetime) -> Refusal | None:
    """Refuse when one of these (newest first) was taken less than `min_interval_seconds` ago; 0 never refuses.

    One stamped in the future (a clock that jumped back) does not count: it would refuse until the clock gets there.
    """
    ages = [(now - backup.created_at).total_seconds() for backup in backups]
    found = next(((b, age) for b, age in zip(backups, ages, strict=True) if 0 <= age < min_interval_seconds), None)
    if found is None:
        return None
    backup, age = found
    text = f"{backup.id} is {show_seconds(age)} old, and min_interval is {show_seconds(min_interval_seconds)}"
    return Refusal(text=text, hint="wait, or make one now with --force")


def anomalous(backups: Sequence[Backup]) -> Refusal | None:
    """Refuse while an anomaly holds: the newest backups of this database in this storage are not like those before."""
    found = holding(backups)
    if not found:
        return None
    first = found[-1]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    accept = f"continuum backup accept {found[0].id} --reason WHY"
    hint = f"examine the database; if it is harmless: {accept}; otherwise restore, or --force"
    return Refusal(text=f"{first.id} is suspect ({'; '.join(first.suspect_reasons)}){more}", hint=hint)


def rhythm_now(rhythm: BackupSchedule, backups: Sequence[Backup]) -> BackupSchedule:
    """Return the rhythm that holds now: while an anomaly holds, increments go on and fulls wait.

    Nothing could build on such a full, and it would take the space of clean ones. Where no increments are scheduled fulls
    go on, since a suspect backup is better than none.
    """
    waits = rhythm.incremental_every_seconds > 0 and bool(holding(backups))
    return replace(rhythm, full_every_seconds=0) if waits else rhythm


def failing(runs: Sequence[EndedRun], *, now: datetime) -> Refusal | None:
    """Refuse when the last runs (newest first) all failed with one error that time alone does not heal, and just now."""
    last = runs[:N_FAILURES]
    if len(last) < N_FAILURES or any(run.transient or not run.error or run.error != last[0].error for run in last):
        return None
    since = now - last[0].at
    if not timedelta(0) <= since < BACK_OFF:
        return None
    left = show_seconds((BACK_OFF - since).total_seconds())
    text = f"the last {N_FAILURES} runs failed with the same error ({last[0].error}); the next scheduled one is in {left}"
    return Refusal(text=text, hint="remove the cause and run `continuum backup create`")
