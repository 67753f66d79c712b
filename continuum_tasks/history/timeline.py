"""Decide which commit stands for an instant, and from which backup it can be restored. Pure.

On a timeline commits are numbered 1, 2, 3 ... and `observed_us` never decreases. What was committed while nobody looked is
a hole: before a `resumed` commit, and between the end of one timeline and commit 1 of the next. Nothing stands for an
instant in a hole. Times are microseconds since 1970 (UTC).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history.chain import usable
from continuum_tasks.model import Backup, Commit, TimelineId
from continuum_tasks.units import instant


class Where(StrEnum):
    """Why nothing stands for an instant."""

    BEFORE = "before"
    HOLE = "hole"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineSpan:
    """A timeline by what is still stored of it: the first and the last commit.

    The one before it was followed until `followed_until_us` (0 = not known), and had no commit after its last until then.
    """

    timeline: TimelineId
    first: Commit
    last: Commit
    followed_until_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCommit:
    """No commit stands for the instant; commits do up to `from_us`, or from `to_us` on, where these are not None."""

    where: Where
    from_us: int | None
    to_us: int | None
    message: str
    hint: str

    def error(self, database: str) -> BackupNotFound:
        return BackupNotFound(f"database {database}: {self.message}", hint=self.hint)


def choose_timeline(when_us: int, lines: Iterable[TimelineSpan], *, watched_until_us: int = 0) -> TimelineSpan | NoCommit:
    """Choose the timeline that was current at an instant; `lines` newest first, no more of them are taken than needed.

    `watched_until_us`: until when the newest one is known to have no later commit than its last, 0 = not known.
    """
    later: TimelineSpan | None = None
    for line in lines:
        if line.first.observed_us <= when_us:
            followed_us = watched_until_us if later is None else min(later.followed_until_us, later.first.observed_us)
            end_us = max(line.last.observed_us, followed_us)
            return line if when_us <= end_us else _beyond(when_us, line, later, end_us)
        later = line
    return _before(when_us, later)


def between(when_us: int, at: Commit, following: Commit | None, *, timeline: TimelineId) -> NoCommit | None:
    """Tell whether an instant lies in the hole before `following`; `at` is the last commit observed at or before it."""
    if following is None or not following.resumed or when_us <= following.observed_us - following.unseen_us:
        return None
    from_us, to_us = max(at.observed_us, following.observed_us - following.unseen_us), following.observed_us
    return NoCommit(
        where=Where.HOLE,
        from_us=from_us,
        to_us=to_us,
        message=f"{show_instant(when_us)} is in a hole of {timeline}: nothing was captured between {show_instant(from_us)}"
        f" (commit {at.number}) and {show_instant(to_us)} (commit {following.number})",
        hint=f"name a time up to {show_instant(from_us)} or from {show_instant(to_us)} on,"
        f" or --commit {at.number} --timeline {timeline};"
        " `continuum backup list` shows backups made in between",
    )


def last_at(when_us: int, commits: Sequence[Commit]) -> int:
    """Return the index of the last commit observed at or before an instant; -1 when all came later."""
    found = -1
    for index, commit in enumerate(commits):
        if commit.observed_us > when_us:
            break
        found = index
    return found


def on_timeline(backups: Sequence[Backup], timeline: TimelineId) -> list[Backup]:
    """Return the usable ones that stand on a timeline, by the commit they hold everything up to, oldest first."""
    standing = [b for b in usable(backups) if b.position is not None and b.position.timeline == timeline]
    return sorted(standing, key=lambda b: (_stands(b), b.created_at, b.id))


def choose_base(backups: Sequence[Backup], timeline: TimelineId, number: int) -> Backup:
    """Choose the backup that a restore to commit `number` begins with: the one with the fewest commits to write over it.

    `backups` are one database's in one storage. Raises BackupNotFound naming the first commit that can be restored.
    """
    standing = on_timeline(backups, timeline)
    before = [b for b in standing if b.position is not None and b.position.settled <= number]
    if before:
        return before[-1]
    raise BackupNotFound(
        f"commit {number} of {timeline}: there is no usable backup at or before it",
        hint=_first_hint(standing, timeline),
    )


def base_to_prove(backups: Sequence[Backup], timeline: TimelineId, number: int, *, proven: int) -> Backup:
    """Choose the backup whose captured successors are proven with commit `number`; all up to commit `proven` are already.

    That is the newest, but of those before the first that read the whole database since: behind it nothing older shows. Raises
    BackupNotFound when none stands before the commit.
    """
    standing = [b for b in on_timeline(backups, timeline) if b.position is not None and b.position.settled <= number]
    if not standing:
        raise BackupNotFound(f"commit {number} of {timeline}: there is no usable backup at or before it", hint="make a backup")
    whole = next((at for at, b in enumerate(standing) if at and b.is_snapshot and _stands(b) > proven), len(standing))
    return standing[whole - 1]


def unproven(backups: Sequence[Backup], timeline: TimelineId, *, since: int) -> list[Backup]:
    """Return the usable backups on a timeline after commit `since` that may be made of captured commits: all but whole ones."""
    return [b for b in on_timeline(backups, timeline) if _stands(b) > since and not b.is_snapshot]


def check_base(base: Backup, number: int, resumed: Collection[int], backups: Sequence[Backup]) -> None:
    """Refuse a base that a hole separates from commit `number`; `resumed` are the numbers of such commits between them.

    An older base is on the far side of that hole too. Raises BackupNotFound naming the hole and what can be restored.
    """
    assert base.position is not None
    position = base.position
    over = [r for r in resumed if position.commit < r <= number]
    if not over:
        return
    after = [b for b in on_timeline(backups, position.timeline) if _stands(b) >= over[-1]]
    raise BackupNotFound(
        f"commit {number} of {position.timeline}: the hole before commit {over[-1]} lies between it and"
        f" {base.id}, the last usable backup before it",
        hint=_first_hint(after, position.timeline),
    )


def show_instant(at_us: int) -> str:
    """Return an instant as ISO 8601 in UTC, to the microsecond where it has any."""
    whole = datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000)
    return whole.isoformat().replace("+00:00", "Z")


def _stands(backup: Backup) -> int:
    return 0 if backup.position is None else backup.position.commit


def _first_hint(standing: Sequence[Backup], timeline: TimelineId) -> str:
    settled = [(b.position.settled, b.id) for b in standing if b.position is not None]
    if not settled:
        return "restore a backup instead: `continuum backup list` shows which there are"
    first, backup_id = min(settled)
    return f"the next that can be restored is --commit {first} --timeline {timeline}, from {backup_id}"


def _beyond(when_us: int, line: TimelineSpan, later: TimelineSpan | None, end_us: int) -> NoCommit:
    last = line.last
    if later is None:
        return NoCommit(
            where=Where.AFTER,
            from_us=end_us,
            to_us=None,
            message=f"{show_instant(when_us)} is after {show_instant(end_us)},"
            f" up to which its commits are known: {_range(line, end_us)}",
            hint=f"--commit {last.number} --timeline {line.timeline} is the last one captured, --latest the newest backup",
        )
    to_us = later.first.observed_us
    return NoCommit(
        where=Where.HOLE,
        from_us=end_us,
        to_us=to_us,
        message=f"{show_instant(when_us)} is in a hole: nothing was captured between {show_instant(end_us)}"
        f" (commit {last.number}, the last of {line.timeline}) and {show_instant(to_us)}"
        f" (commit {later.first.number}, the first of {later.timeline})",
        hint=f"name a time up to {show_instant(end_us)} or from {show_instant(to_us)} on,"
        f" or --commit {last.number} --timeline {line.timeline};"
        " `continuum backup list` shows backups made in between",
    )


def _before(when_us: int, oldest: TimelineSpan | None) -> NoCommit:
    if oldest is None:
        return NoCommit(
            where=Where.BEFORE,
            from_us=None,
            to_us=None,
            message="none of its commits was captured",
            hint="use --latest or an ID",
        )
    to_us = oldest.first.observed_us
    return NoCommit(
        where=Where.BEFORE,
        from_us=None,
        to_us=to_us,
        message=f"{show_instant(when_us)} is before {show_instant(to_us)}, from which on its commits are known:"
        f" {_range(oldest, oldest.last.observed_us)}",
        hint=f"name a time from {show_instant(to_us)} on",
    )


def _range(line: TimelineSpan, end_us: int) -> str:
    return (
        f"{line.timeline} has commits {line.first.number} to {line.last.number}, from {show_instant(line.first.observed_us)}"
        f" to {show_instant(end_us)}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A time in which commits may have been made that were not captured, and why. Microseconds since 1970.

    `commit` is the first one after it, on `timeline`.
    """

    timeline: str
    commit: int
    from_us: int
    to_us: int
    reason: str

    @property
    def begins_at(self) -> datetime:
        return instant(self.from_us)

    @property
    def ends_at(self) -> datetime:
        return instant(self.to_us)

    def seconds_within(self, since: datetime, until: datetime) -> float:
        """Return how much of it lies in a period."""
        return max(0.0, (min(self.ends_at, until) - max(self.begins_at, since)).total_seconds())


def since(holes: Iterable[Hole], at: datetime) -> tuple[Hole, ...]:
    """Return the holes that end at or after an instant, the newest first."""
    return tuple(sorted((hole for hole in holes if hole.ends_at >= at), key=lambda hole: hole.to_us, reverse=True))
