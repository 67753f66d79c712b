"""Find the captured commits of a database: in which storage, on which timelines, and which of them is meant in words."""

from __future__ import annotations

from dataclasses import dataclass

from continuum_tasks.assembly import commit_log
from continuum_tasks.assembly.commit_log import CaptureHorizon, CommitView, TimelineLog
from continuum_tasks.capture.state.status import read_status
from continuum_tasks.errors import NewerFormat, UsageError
from continuum_tasks.model import TimelineId
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import timeline_keys
from continuum_tasks.runtime import Runtime
from continuum_tasks.units import duration, moment


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
            f"database {self.database}: hosts {', '.join(hosts)} capture one of that name there, and this is {here}",
            hint=f"name a timeline, as --timeline {found[0].timeline.id}",
        )


def commit_text(seen: CommitView) -> str:
    """Return in a few words which commit this is."""
    if seen.resumed:
        return (
            f"commit {seen.number} of {seen.timeline}, the state found {commit_moment(seen)} UTC when capture began or went on"
        )
    within = duration(seen.uncertainty_seconds)
    return f"commit {seen.number} of {seen.timeline}, observed {commit_moment(seen)} UTC, made at most {within} before"


def commit_moment(seen: CommitView) -> str:
    """Return when a commit was observed, to the millisecond."""
    return f"{moment(seen.observed_at)}.{seen.observed_at.microsecond // 1000:03d}"
