"""Find commits in what a repository holds of a database's timelines: by number, by time, or one after the other.

Only indexes of segments are read, and of a timeline no more of them than a search by halves needs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from continuum_tasks.errors import BackupNotFound, NewerFormat, ObjectMissing
from continuum_tasks.history.segment_names import SegmentRef, holes_in
from continuum_tasks.history.timeline import NoCommit, TimelineSpan, between, choose_timeline, last_at, show_instant
from continuum_tasks.model import Commit, CommitRef, Timeline, TimelineId
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import list_segments, read_segment_index, split_timelines
from continuum_tasks.segment.head import SegmentHead
from continuum_tasks.segment.reader import OpenedSegment

OPENED = 4  # indexes kept: a large one takes tens of MB


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitView:
    """A commit as it is shown. It was made within `uncertainty_seconds` before `observed_at`; `pages` were written.

    `size_bytes` is the database after it. `resumed`: the state found after a hole of `uncertainty_seconds`, for `reason`.
    """

    timeline: TimelineId
    number: int
    observed_at: datetime
    uncertainty_seconds: float
    pages: int
    size_bytes: int
    resumed: bool
    reason: str = ""

    @property
    def ref(self) -> CommitRef:
        return CommitRef(timeline=self.timeline, number=self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHorizon:
    """What the capture on this host knows: there was no commit after `commit` on `timeline` until `until_us`."""

    timeline: TimelineId
    commit: int
    until_us: int


class TimelineLog:
    """One timeline as it is stored. Raises ObjectMissing where a segment is gone, ObjectDamaged, KeyMissing, KeyWrong."""

    def __init__(self, repository: Repository, timeline: Timeline) -> None:
        self.repository = repository
        self.timeline = timeline
        self._opened: OrderedDict[str, OpenedSegment] = OrderedDict()

    @cached_property
    def refs(self) -> tuple[SegmentRef, ...]:
        """The segments that count, in order, by one listing."""
        return list_segments(self.repository, self.timeline)

    @cached_property
    def line(self) -> TimelineSpan:
        """Its first and last commit; it must have segments."""
        first, last = self.head(0).commits[0], self.head(len(self.refs) - 1).commits[-1]
        followed_us = self.timeline.followed_until_us
        return TimelineSpan(timeline=self.timeline.id, first=first, last=last, followed_until_us=followed_us)

    def opened(self, index: int) -> OpenedSegment:
        """Open one segment's index; the last few stay open."""
        ref = self.refs[index]
        if ref.key not in self._opened:
            self._opened[ref.key] = read_segment_index(self.repository, self.timeline, ref)
            if len(self._opened) > OPENED:
                self._opened.popitem(last=False)
        self._opened.move_to_end(ref.key)
        return self._opened[ref.key]

    def head(self, index: int) -> SegmentHead:
        return self.opened(index).head

    def index_of(self, number: int) -> int:
        """Return which segment holds a commit. Raises BackupNotFound naming the range there is, ObjectMissing."""
        index = self._last(number, [ref.first_commit for ref in self.refs], lambda commit: commit.number)
        if index >= 0 and number <= self.head(index).commits[-1].number:
            return index
        if 0 <= index < len(self.refs) - 1:
            raise self.missing(index, index + 1)
        raise self._not_there(number)

    def index_at(self, when_us: int) -> int:
        """Return the last segment that begins at or before an instant, -1 when all begin later."""
        return self._last(when_us, [ref.first_us for ref in self.refs], lambda commit: commit.observed_us)

    def numbered(self, number: int) -> tuple[Commit, CommitView]:
        """Return one commit, and how it is shown. Raises as `index_of`."""
        head = self.head(self.index_of(number))
        commit = head.commits[number - head.commits[0].number]
        return commit, self.seen(commit, head)

    def at(self, when_us: int) -> tuple[Commit, Commit | None]:
        """Return the last commit observed at or before an instant, which the first one was, and the one after it."""
        index = self.index_at(when_us)
        commits = self.head(index).commits
        place = last_at(when_us, commits)
        found = commits[place]
        if place + 1 < len(commits):
            return found, commits[place + 1]
        if index + 1 == len(self.refs):
            return found, None
        if self.refs[index].last_seq + 1 != self.refs[index + 1].first_seq:
            raise self.missing(index, index + 1)
        return found, self.head(index + 1).commits[0]

    def seen(self, commit: Commit, head: SegmentHead) -> CommitView:
        """Return a commit of the segment with this head as it is shown."""
        reasons = dict(head.reasons) if commit.resumed else {}
        return CommitView(
            timeline=self.timeline.id,
            number=commit.number,
            observed_at=datetime.fromisoformat(show_instant(commit.observed_us)),
            uncertainty_seconds=commit.unseen_us / 1_000_000,
            pages=commit.n_stored,
            size_bytes=commit.n_pages * self.timeline.page_size,
            resumed=commit.resumed,
            reason=reasons.get(commit.number, ""),
        )

    def missing(self, first: int, last: int) -> ObjectMissing:
        """Return the error that names the segments missing between two that are there."""
        holes = ", ".join(f"{a} to {b}" if a < b else str(a) for a, b in holes_in(self.refs[first : last + 1]))
        return ObjectMissing(
            f"timeline {self.timeline.id} of {self.timeline.database}: segments are missing in storage"
            f" {self.repository.name}: seq {holes}",
            hint="bring them back from a copy of the storage, or restore a commit before them, or a backup made after them",
        )

    def _last(self, value: int, known: Sequence[int | None], of: Callable[[Commit], int]) -> int:
        def begins(index: int) -> int:
            named = known[index]
            return of(self.head(index).commits[0]) if named is None else named

        return bisect_right(range(len(self.refs)), value, key=begins) - 1

    def _not_there(self, number: int) -> BackupNotFound:
        if not self.refs:
            return BackupNotFound(
                f"timeline {self.timeline.id}: holds no commits", hint="`continuum backup history` shows others"
            )
        line = self.line
        return BackupNotFound(
            f"commit {number} of {line.timeline} is not stored: it has commits {line.first.number} to {line.last.number},"
            f" from {show_instant(line.first.observed_us)} to {show_instant(line.last.observed_us)}",
            hint="`continuum backup history` lists commits; --timeline names another timeline",
        )


def timeline_logs(repository: Repository, database: str) -> list[TimelineLog]:
    """Return the timelines of a database that this version reads, newest first. Raises StorageError, ObjectDamaged."""
    return split_logs(repository, database)[0]


def split_logs(repository: Repository, database: str) -> tuple[list[TimelineLog], list[NewerFormat]]:
    """As `timeline_logs`, and beside them what says of each other timeline that a newer version wrote it."""
    found, newer = split_timelines(repository, database)
    return [TimelineLog(repository, timeline) for timeline in reversed(found)], newer


def by_number(found: Sequence[TimelineLog], number: int, *, timeline: TimelineId | None, database: str) -> CommitView:
    """Find a commit on the timeline named, else on the newest that has any; `found` as `timeline_logs` gives them.

    Raises BackupNotFound naming what there is, ObjectMissing, ObjectDamaged, KeyringError.
    """
    log = newest_log(found, timeline=timeline, database=database)
    return log.numbered(number)[1]


def newest_log(found: Sequence[TimelineLog], *, timeline: TimelineId | None, database: str) -> TimelineLog:
    """Return the timeline named, else the newest that has commits. Raises BackupNotFound."""
    for log in found:
        if timeline in (None, log.timeline.id) and log.refs:
            return log
    names = ", ".join(log.timeline.id for log in found)
    what = f"timeline {timeline} is not stored" if timeline else "none of its commits was captured"
    hint = f"there are: {names}" if names else "`continuum backup create --strategy continuous` begins to capture"
    raise BackupNotFound(f"database {database}: {what}", hint=hint)


def by_time(found: Sequence[TimelineLog], when_us: int, *, watched: CaptureHorizon | None = None) -> CommitView | NoCommit:
    """Find the commit that stands for an instant; `found` as `timeline_logs` gives them, so no more are read than needed.

    Raises ObjectMissing, ObjectDamaged, KeyringError, StorageError.
    """
    by_id = {log.timeline.id: log for log in found}
    line = choose_timeline(when_us, _lines(found), watched_until_us=_until_us(found, watched))
    if isinstance(line, NoCommit):
        return line
    log = by_id[line.timeline]
    commit, following = log.at(when_us)
    return between(when_us, commit, following, timeline=line.timeline) or log.numbered(commit.number)[1]


def _until_us(found: Sequence[TimelineLog], watched: CaptureHorizon | None) -> int:
    """Return until when the newest timeline's last stored commit is known to be its last, 0 when that is not known."""
    line = next(_lines(found), None)
    if watched is None or line is None or (watched.timeline, watched.commit) != (line.timeline, line.last.number):
        return 0
    return watched.until_us


def _lines(found: Sequence[TimelineLog]) -> Iterator[TimelineSpan]:
    return (log.line for log in found if log.refs)
