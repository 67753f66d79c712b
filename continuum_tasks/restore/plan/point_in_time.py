"""Decide which backup stands for an instant: the last usable one at or before it; and which is the latest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from continuum_tasks.errors import BackupNotFound, UsageError
from continuum_tasks.history.chain import made_on, newest_first, usable
from continuum_tasks.history.timeline import NoCommit, Where, show_instant
from continuum_tasks.model import Backup
from continuum_tasks.units import microseconds, moment


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


def newest_usable(backups: Sequence[Backup], *, storage: str) -> Backup | None:
    """Return the newest usable backup of one database, of several copies that in `storage`; None when none is usable."""
    ordered = newest_first(candidates(backups))
    if not ordered:
        return None
    copies = [backup for backup in ordered if backup.id == ordered[0].id]
    return next((copy for copy in copies if copy.storage == storage), ordered[0])


def of_one_host(backups: Sequence[Backup], *, host: str, database: str) -> Sequence[Backup]:
    """Return a host's own backups; one that has none, as after a disaster, gets those of the only other one.

    Raises UsageError when there are several others: their databases share no more than a name.
    """
    own = made_on(host, backups)
    hosts = sorted({backup.host for backup in backups})
    if own or len(hosts) <= 1:
        return own or backups
    raise UsageError(
        f"database {database}: hosts {', '.join(hosts)} keep one of that name there, and this is {host}",
        hint="name the backup: `continuum backup list --format json` shows the host of each",
    )


def backup_stands(missed: NoCommit, when: datetime, backups: Sequence[Backup]) -> bool:
    """Tell whether a backup stands for a time that no commit stands for: before all commits, or nearer than the last one."""
    if missed.where is Where.AFTER:
        return _made_between(missed, when, backups) is not None
    return missed.where is Where.BEFORE


def known_commits(missed: NoCommit) -> str:
    """Return in words up to when, or from when on, commits are known."""
    return (
        f"up to {show_instant(missed.from_us)}" if missed.from_us is not None else f"from {show_instant(missed.to_us or 0)} on"
    )


def no_commit(missed: NoCommit, when: datetime, backups: Sequence[Backup], *, database: str) -> BackupNotFound:
    """Return the error that names the edges, and the backup that was made in the hole, if there is one."""
    err = missed.error(database)
    inside = _made_between(missed, when, backups)
    if inside is None:
        return err
    return BackupNotFound(err.message, hint=f"{err.hint}; {inside.id} was made in the hole, {moment(inside.created_at)} UTC")


def _made_between(missed: NoCommit, when: datetime, backups: Sequence[Backup]) -> Backup | None:
    """Return the last usable backup made after the last commit before a time, and not after that time."""
    from_us = missed.from_us or 0
    made = [b for b in candidates(backups) if b.created_at <= when and microseconds(b.created_at) > from_us]
    return made[-1] if made else None
