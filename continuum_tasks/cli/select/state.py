"""Which state a command works on, said on standard error: a backup by its ID, the latest, or what stands for a time or commit.

A time is exact to the commit where commits were captured; elsewhere it is the last backup at or before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from continuum_tasks.assembly.commit_log import CommitView
from continuum_tasks.cli.frame import output
from continuum_tasks.cli.select import backups, commits
from continuum_tasks.errors import StorageError, UsageError
from continuum_tasks.history.timeline import choose_base
from continuum_tasks.model import Backup, BackupId, BackupStatus, CommitRef, TimelineId
from continuum_tasks.restore.plan import point_in_time
from continuum_tasks.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class StateQuery:
    """The words that name a state: exactly one of `backup_id`, `latest`, `pitr` and `commit`; empty names are the defaults.

    `timeline`: of the commit, or of what stands for the time.
    """

    backup_id: BackupId | None
    latest: bool = False
    pitr: datetime | None = None
    commit: int | None = None
    timeline: TimelineId | None = None
    database: str = ""
    storage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenState:
    """The backup, and where the state is that after a captured commit that one: the backup is then its base."""

    backup: Backup
    seen: CommitView | None = None

    @property
    def commit(self) -> CommitRef | None:
        return None if self.seen is None else self.seen.ref

    @property
    def name(self) -> str:
        return self.backup.id if self.seen is None else f"commit {self.seen.number}"


def check_state_query(wanted: StateQuery) -> None:
    """Refuse words that name no state, or two. Raises UsageError."""
    named = (wanted.backup_id is not None, wanted.latest, wanted.pitr is not None, wanted.commit is not None)
    if sum(named) != 1:
        raise UsageError(
            "name one backup: an ID, --latest, --pitr TIME or --commit N, and only one of them",
            hint="`continuum backup list` shows the ids and times, `continuum backup history` the commits",
        )
    if wanted.timeline is not None and wanted.commit is None and wanted.pitr is None:
        raise UsageError("--timeline requires --commit or --pitr", hint="leave it out")
    if wanted.database and wanted.backup_id is not None:
        raise UsageError("--database requires --latest, --pitr or --commit", hint="remove it: the ID says which database")


def choose_state(runtime: Runtime, wanted: StateQuery) -> ChosenState:
    """Find the state and say which it is. Raises BackupNotFound, or the StorageError of a storage that might hold it."""
    seen: CommitView | None = None
    if wanted.backup_id is not None:
        backup = backups.locate(runtime, wanted.backup_id, storage=wanted.storage)
    elif wanted.latest:
        backup = backups.latest(runtime, database=wanted.database, storage=wanted.storage)
        output.remark(f"latest: {backup.id}, created {output.moment(backup.created_at)} UTC")
    else:
        backup, seen = _point(runtime, wanted)
    if backup.status is BackupStatus.SUSPECT:
        reasons = f": {'; '.join(backup.suspect_reasons)}" if backup.suspect_reasons else ""
        output.warn(f"backup {backup.id} is suspect{reasons}; an older one may be sound")
    return ChosenState(backup=backup, seen=seen)


def _point(runtime: Runtime, wanted: StateQuery) -> tuple[Backup, CommitView | None]:
    """Find what stands for a commit or a time: a backup as it is, or the base of a commit, and the commit."""
    database = wanted.database or runtime.config.default_database
    found = backups.look_up(runtime, storage=wanted.storage)
    mine = [backup for backup in found.backups if backup.database == database]
    asked = commits.CommitSelection(runtime=runtime, database=database, storage=wanted.storage, timeline=wanted.timeline)
    if wanted.commit is not None:
        seen: CommitView | None = commits.commit_numbered(asked, wanted.commit)
    else:
        assert wanted.pitr is not None
        seen = commits.commit_at(asked, wanted.pitr, mine)
        if seen is None:
            return _at(runtime, wanted.pitr, found.unread, mine, database=database), None
    assert seen is not None
    beside = [backup for backup in mine if backup.storage == asked.repository.name]
    base = choose_base(beside, seen.timeline, seen.number)
    output.remark(f"restored from {base.id} and the commits after it")
    return base, seen


def _at(runtime: Runtime, when: datetime, unread: Sequence[StorageError], mine: Sequence[Backup], *, database: str) -> Backup:
    if unread and not point_in_time.candidates(mine):
        raise unread[0]
    for err in unread:
        output.warn(f"{err.message}: a backup nearer to that time may be there")
    point = point_in_time.choose_point(when, mine, database=database, storage=runtime.config.default_storage)
    backup = point.backup
    if when > runtime.site.clock.now():
        output.warn(f"{output.moment(when)} UTC is in the future: this is the last backup there is")
    output.remark(
        f"--pitr: {backup.id}, the last usable backup at or before {output.moment(when)} UTC: taken"
        f" {output.moment(backup.created_at)} UTC, {output.duration(point.behind_seconds)} before;"
        " changes in between are not in it"
    )
    return backup
