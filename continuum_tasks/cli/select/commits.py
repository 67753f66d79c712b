"""Captured commits as commands see them: in which storage, found by number or time, and how one is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from continuum_tasks.assembly import commit_log
from continuum_tasks.assembly.commit_log import CaptureHorizon, CommitView, TimelineLog
from continuum_tasks.capture.state.status import read_status
from continuum_tasks.cli.frame import output
from continuum_tasks.errors import BackupNotFound, NewerFormat, StorageError, UsageError
from continuum_tasks.history.timeline import NoCommit, Where, show_instant
from continuum_tasks.model import Backup, TimelineId
from continuum_tasks.repository.documents import to_json
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import timeline_keys
from continuum_tasks.restore.plan import point_in_time
from continuum_tasks.runtime import Runtime
from continuum_tasks.units import microseconds


def repository_of(runtime: Runtime, database: str, storage: str) -> Repository:
    """Return where a database's commits are: in the storage named, else in the one its backups go to. Raises UsageError."""
    declared = {settings.name: settings.storage for settings in runtime.config.databases}
    return runtime.repository(storage or declared.get(database, ""))


def capture_horizon(runtime: Runtime, database: str) -> CaptureHorizon | None:
    """Return what the capture of a database on this host knows, None where none runs or ran."""
    status = read_status(runtime.config.state_dir, database)
    if status is None or not status.timeline:
        return None
    return CaptureHorizon(timeline=TimelineId(status.timeline), commit=status.commit, until_us=status.watched_until_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSelection:
    """Whose commits are wanted; an empty `storage` is the one the database's backups go to, `timeline` None means all."""

    runtime: Runtime
    database: str
    storage: str
    timeline: TimelineId | None

    @property
    def repository(self) -> Repository:
        return repository_of(self.runtime, self.database, self.storage)

    def others(self) -> list[str]:
        """Return the other databases that have timelines in this storage."""
        return sorted({key.split("/")[1] for key in timeline_keys(self.repository)} - {self.database})

    def logs(self) -> list[TimelineLog]:
        """Return the timelines that were asked for, newest first.

        Without a name: this host's; a host that has none, as after a disaster, gets those of the only other one. Raises
        BackupNotFound for one that is not there, UsageError when several others share no more than the database's name,
        NewerFormat when a newer version wrote one of them, which may be the one that is wanted.
        """
        found, newer = commit_log.split_logs(self.repository, self.database)
        if self.timeline is not None:
            wanted = [err for err in newer if f"/{self.timeline}.json:" in err.message]
            if wanted:
                raise wanted[0]
            return [commit_log.newest_log(found, timeline=self.timeline, database=self.database)]
        if newer:
            others = f", or name another timeline, as --timeline {found[0].timeline.id}" if found else ""
            raise NewerFormat(newer[0].message, hint=f"{newer[0].hint}{others}")
        here = self.runtime.config.host
        own = [log for log in found if log.timeline.host == here]
        hosts = sorted({log.timeline.host for log in found})
        if own or len(hosts) <= 1:
            return own or found
        raise UsageError(
            f"database {self.database}: hosts {', '.join(hosts)} capture one of that name there; this host is {here}",
            hint=f"name a timeline, as --timeline {found[0].timeline.id}",
        )


def commit_numbered(asked: CommitSelection, number: int) -> CommitView:
    """Find a commit by its number and say which it is. Raises BackupNotFound, StorageError, IntegrityError."""
    seen = commit_log.by_number(asked.logs(), number, timeline=asked.timeline, database=asked.database)
    output.remark(f"--commit: {commit_text(seen)}")
    return seen


def commit_at(asked: CommitSelection, when: datetime, backups: Sequence[Backup]) -> CommitView | None:
    """Find the commit that stands for a time and say which it is; None where commits say nothing and a backup has to.

    That is: none was captured, the storage cannot be asked, the time is before the first, or after the last and a backup is
    nearer. Raises BackupNotFound naming the edges of a hole, or the range, IntegrityError, StorageError.
    """
    try:
        found = asked.logs()
    except StorageError as err:
        output.warn(f"{err.message}: commits captured there are not considered")
        return None
    if not any(log.refs for log in found):
        return None
    seen = commit_log.by_time(found, microseconds(when), watched=capture_horizon(asked.runtime, asked.database))
    if isinstance(seen, CommitView):
        output.remark(f"--pitr: {commit_text(seen)}")
        return seen
    if asked.timeline is None and _is_nearer(seen, when, backups):
        return None
    raise _error(seen, when, backups, database=asked.database)


def commit_text(seen: CommitView) -> str:
    """Return in a few words which commit this is."""
    if seen.resumed:
        return (
            f"commit {seen.number} of {seen.timeline}, the state found {commit_moment(seen)} UTC when capture began or went on"
        )
    within = output.duration(seen.uncertainty_seconds)
    return f"commit {seen.number} of {seen.timeline}, observed {commit_moment(seen)} UTC, made at most {within} before"


def commit_moment(seen: CommitView) -> str:
    """Return when a commit was observed, to the millisecond."""
    return f"{output.moment(seen.observed_at)}.{seen.observed_at.microsecond // 1000:03d}"


def commit_facts(seen: CommitView, base: Backup, *, what: str = "restored") -> list[tuple[str, str]]:
    """Return what people want to know of a restored commit."""
    how = "found then, after a hole" if seen.resumed else f"made at most {output.duration(seen.uncertainty_seconds)} before"
    return [
        (what, f"commit {seen.number} of {seen.timeline}"),
        ("observed", f"{commit_moment(seen)} UTC, {how}"),
        ("from", f"{base.id} and the commits after it"),
    ]


def commit_fields(seen: CommitView) -> dict[str, Any]:
    """Return a commit as it stands in JSON output."""
    found: dict[str, Any] = to_json(seen)
    return found


def _is_nearer(missed: NoCommit, when: datetime, backups: Sequence[Backup]) -> bool:
    """Tell whether a backup stands for a time that no commit stands for, and say why no commit does."""
    after = missed.where is Where.AFTER and _between(missed, when, backups) is not None
    if missed.where is not Where.BEFORE and not after:
        return False
    known = (
        f"up to {show_instant(missed.from_us)}" if missed.from_us is not None else f"from {show_instant(missed.to_us or 0)} on"
    )
    output.remark(f"--pitr: commits are known {known} only, so this is the state of a backup")
    return True


def _error(missed: NoCommit, when: datetime, backups: Sequence[Backup], *, database: str) -> BackupNotFound:
    err = missed.error(database)
    inside = _between(missed, when, backups)
    if inside is None:
        return err
    return BackupNotFound(
        err.message, hint=f"{err.hint}; {inside.id} was made in the hole, {output.moment(inside.created_at)} UTC"
    )


def _between(missed: NoCommit, when: datetime, backups: Sequence[Backup]) -> Backup | None:
    """Return the last usable backup made after the last commit before a time, and not after that time."""
    from_us = missed.from_us or 0
    made = [b for b in point_in_time.candidates(backups) if b.created_at <= when and microseconds(b.created_at) > from_us]
    return made[-1] if made else None
