"""Resolve the words that name a state: a backup by its ID, the latest, or what stands for a time or a commit number.

A time is exact to the commit where commits were captured; elsewhere it is the last backup at or before it. Remarks say which
point it is and why; they are yielded in order, also when an error follows. `runtime.finish` gives the result alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime

from continuum_tasks.assembly import commit_log
from continuum_tasks.assembly.commit_log import CommitView
from continuum_tasks.errors import StorageError, UsageError
from continuum_tasks.findings import Remark
from continuum_tasks.history.chain import made_on
from continuum_tasks.history.timeline import choose_base
from continuum_tasks.model import Backup, BackupId, BackupStatus, CommitRef, TimelineId
from continuum_tasks.restore.find_backup import BackupListing, latest, locate, look_up
from continuum_tasks.restore.find_commits import CommitSelection, capture_horizon, commit_text
from continuum_tasks.restore.plan import point_in_time
from continuum_tasks.runtime import Runtime
from continuum_tasks.units import duration, microseconds, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class PointQuery:
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
class ResolvedPoint:
    """The backup, and where the state is that after a captured commit that one: the backup is then its base."""

    backup: Backup
    seen: CommitView | None = None

    @property
    def commit(self) -> CommitRef | None:
        return None if self.seen is None else self.seen.ref

    @property
    def name(self) -> str:
        return self.backup.id if self.seen is None else f"commit {self.seen.number}"


def check_point_query(query: PointQuery) -> None:
    """Refuse words that name no state, or two. Raises UsageError."""
    named = (query.backup_id is not None, query.latest, query.pitr is not None, query.commit is not None)
    if sum(named) != 1:
        raise UsageError(
            "name one backup: an ID, --latest, --pitr TIME or --commit N, and only one of them",
            hint="`continuum backup list` shows the ids and times, `continuum backup history` the commits",
        )
    if query.timeline is not None and query.commit is None and query.pitr is None:
        raise UsageError("--timeline only means something with --commit or --pitr", hint="leave it out")
    if query.database and query.backup_id is not None:
        raise UsageError(
            "--database only means something with --latest, --pitr or --commit", hint="leave it out: the ID says which database"
        )


def resolve_point(query: PointQuery, *, runtime: Runtime) -> Generator[Remark, None, ResolvedPoint]:
    """Find the state that is meant.

    Raises UsageError where the words name no state, or two, or a database of several hosts; BackupNotFound naming the edges
    of a hole, or the range there is; the StorageError of a storage that might hold it; IntegrityError, KeyringError.
    """
    check_point_query(query)
    if query.backup_id is not None:
        point = ResolvedPoint(backup=(yield from locate(runtime, query.backup_id, storage=query.storage)))
    elif query.latest:
        point = ResolvedPoint(backup=(yield from latest(runtime, database=query.database, storage=query.storage)))
        yield Remark(text=f"latest: {point.backup.id}, created {moment(point.backup.created_at)} UTC")
    else:
        point = yield from _commit_or_time(query, runtime)
    backup = point.backup
    if backup.status is BackupStatus.SUSPECT:
        reasons = f": {'; '.join(backup.suspect_reasons)}" if backup.suspect_reasons else ""
        yield Remark(text=f"backup {backup.id} is suspect{reasons}; an older one may be sound", warns=True)
    return point


def _commit_or_time(query: PointQuery, runtime: Runtime) -> Generator[Remark, None, ResolvedPoint]:
    """Find what stands for a commit or a time: a backup as it is, or the base of a commit, and the commit."""
    database = query.database or runtime.config.default_database
    listing = yield from look_up(runtime, storage=query.storage)
    mine = [backup for backup in listing.backups if backup.database == database]
    commits = CommitSelection(runtime=runtime, database=database, storage=query.storage, timeline=query.timeline)
    if query.commit is not None:
        seen: CommitView | None = commit_log.by_number(
            commits.logs(), query.commit, timeline=commits.timeline, database=database
        )
        assert seen is not None
        yield Remark(text=f"--commit: {commit_text(seen)}")
    else:
        assert query.pitr is not None
        host = runtime.config.host
        seen = yield from _commit_at(commits, query.pitr, made_on(host, mine) or mine)
        if seen is None:
            own = point_in_time.of_one_host(mine, host=host, database=database)
            return (yield from _backup_at(query.pitr, listing, own, runtime=runtime, database=database))
    here = [backup for backup in mine if backup.storage == commits.repository.name]
    base = choose_base(here, seen.timeline, seen.number)
    yield Remark(text=f"restored from {base.id} and the commits after it")
    return ResolvedPoint(backup=base, seen=seen)


def _commit_at(
    commits: CommitSelection, when: datetime, backups: Sequence[Backup]
) -> Generator[Remark, None, CommitView | None]:
    """Find the commit that stands for a time; None where commits say nothing and a backup has to: the remarks say why.

    That is: none was captured, the storage cannot be asked, the time is before the first, or after the last and a backup is
    nearer.
    """
    try:
        logs = commits.logs()
    except StorageError as err:
        yield Remark(text=f"{err.message}: commits captured there are not considered", warns=True)
        return None
    if not any(log.refs for log in logs):
        return None
    horizon = capture_horizon(commits.runtime, commits.database)
    seen = commit_log.by_time(logs, microseconds(when), watched=horizon)
    if isinstance(seen, CommitView):
        yield Remark(text=f"--pitr: {commit_text(seen)}")
        return seen
    if commits.timeline is None and point_in_time.backup_stands(seen, when, backups):
        known = point_in_time.known_commits(seen)
        yield Remark(text=f"--pitr: commits are known {known} only, so this is the state of a backup")
        return None
    raise point_in_time.no_commit(seen, when, backups, database=commits.database)


def _backup_at(
    when: datetime, listing: BackupListing, mine: Sequence[Backup], *, runtime: Runtime, database: str
) -> Generator[Remark, None, ResolvedPoint]:
    """Find the last usable backup at or before a time."""
    if listing.unread and not point_in_time.candidates(mine):
        raise listing.unread[0]
    for err in listing.unread:
        yield Remark(text=f"{err.message}: a backup nearer to that time may be there", warns=True)
    point = point_in_time.choose_point(when, mine, database=database, storage=runtime.config.default_storage)
    backup = point.backup
    if when > runtime.site.clock.now():
        yield Remark(text=f"{moment(when)} UTC is in the future: this is the last backup there is", warns=True)
    yield Remark(
        text=f"--pitr: {backup.id}, the last usable backup at or before {moment(when)} UTC: taken"
        f" {moment(backup.created_at)} UTC, {duration(point.behind_seconds)} before;"
        " changes in between are not in it"
    )
    return ResolvedPoint(backup=backup)
