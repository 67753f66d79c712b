"""List the commits that were captured, newest first: all of a time, or those around an instant."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from continuum_tasks.assembly.commit_log import CommitView, TimelineLog
from continuum_tasks.model import Commit


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitEntry:
    """One commit, and the numbers of the pages that are stored of it."""

    seen: CommitView
    pgnos: array[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitQuery:
    """Which commits: at most `limit`, around or since an instant (microseconds since 1970), None = the newest."""

    limit: int
    around_us: int | None = None
    since_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A commit by where it is: which timeline, which of its segments, which of the commits in that."""

    log: int
    segment: int
    commit: int


def list_commits(found: Sequence[TimelineLog], wanted: CommitQuery) -> list[CommitEntry]:
    """Return commits, newest first; `found` as `timeline_logs` gives them. No more segments are read than these take.

    Raises ObjectMissing, ObjectDamaged, KeyringError, StorageError.
    """
    found = [log for log in found if log.refs]
    if not found:
        return []
    if wanted.around_us is None:
        places = _older(found, _Place(log=0, segment=len(found[0].refs), commit=0))
        since_us = wanted.since_us or 0
        recent = takewhile(lambda place: _commit(found, place).observed_us >= since_us, places)
        return [_entry(found, place) for place in islice(recent, wanted.limit)]
    at = _at(found, wanted.around_us)
    later = list(islice(_newer(found, at), wanted.limit // 2))
    before = list(islice(_older(found, _after(at)), wanted.limit - len(later)))
    return [_entry(found, place) for place in (*reversed(later), *before)]


def _at(found: Sequence[TimelineLog], when_us: int) -> _Place:
    """Return the last commit observed at or before an instant, else the first there is."""
    for number, log in enumerate(found):
        segment = log.index_at(when_us)
        if segment >= 0:
            commits = log.head(segment).commits
            return _Place(log=number, segment=segment, commit=sum(commit.observed_us <= when_us for commit in commits) - 1)
    return _Place(log=len(found) - 1, segment=0, commit=0)


def _after(place: _Place) -> _Place:
    return _Place(log=place.log, segment=place.segment, commit=place.commit + 1)


def _older(found: Sequence[TimelineLog], before: _Place) -> Iterator[_Place]:
    """Yield all commits before a place, newest first."""
    for number in range(before.log, len(found)):
        here = number == before.log
        last = before.segment if here else len(found[number].refs) - 1
        for segment in range(last, -1, -1):
            whole = not (here and segment == before.segment)
            n_commits = len(found[number].head(segment).commits) if whole else before.commit
            for commit in range(n_commits - 1, -1, -1):
                yield _Place(log=number, segment=segment, commit=commit)


def _newer(found: Sequence[TimelineLog], after: _Place) -> Iterator[_Place]:
    """Yield all commits after a place, oldest first."""
    for number in range(after.log, -1, -1):
        here = number == after.log
        for segment in range(after.segment if here else 0, len(found[number].refs)):
            first = after.commit + 1 if here and segment == after.segment else 0
            for commit in range(first, len(found[number].head(segment).commits)):
                yield _Place(log=number, segment=segment, commit=commit)


def _entry(found: Sequence[TimelineLog], place: _Place) -> CommitEntry:
    log = found[place.log]
    opened = log.opened(place.segment)
    commit = opened.head.commits[place.commit]
    span = opened.span(commit.number)
    return CommitEntry(seen=log.seen(commit, opened.head), pgnos=opened.index.pgnos[span.start : span.stop])


def _commit(found: Sequence[TimelineLog], place: _Place) -> Commit:
    return found[place.log].head(place.segment).commits[place.commit]
