"""Decide what the point-in-time window needs: which backups as bases, and which segments nothing needs any more. Pure.

The window's first commit is the one that was current when the window began; from it on every captured commit stays
restorable. A restore begins with a base on the same side of every hole, so each stretch between holes keeps one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from continuum_tasks.capture.plan.compaction import seen_us
from continuum_tasks.history.segment_names import SegmentRef
from continuum_tasks.history.timeline import on_timeline
from continuum_tasks.model import Backup, BackupId, Position, TimelineId
from continuum_tasks.retention.plan.keep_reasons import proven


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is stored of one timeline: `refs` as `segment_names.cover` gives them, `resumed` the numbers of such commits.

    `current`: no other timeline of the database came after it, so it may still grow.
    """

    timeline: TimelineId
    refs: tuple[SegmentRef, ...]
    current: bool
    resumed: tuple[int, ...] = ()


def is_over(record: Record, *, before_us: int) -> bool:
    """Tell whether a whole timeline lies before the window: nothing of it is needed any more."""
    return not record.current and all(seen_us(ref) < before_us for ref in record.refs)


def undescribed(record: Record, *, before_us: int) -> tuple[SegmentRef, ...]:
    """Return raw segments whose commit numbers `plan_bases` and `plan_droppable` would need; without, they only keep more."""
    return tuple(ref for ref in record.refs[: _live(record, before_us) + 1] if ref.is_raw)


def plan_bases(backups: Sequence[Backup], record: Record, *, before_us: int) -> frozenset[BackupId]:
    """Return the backups that the window's restores on this timeline begin with, of one database in one storage.

    For each stretch the newest that stands at or before its first commit, or where none does the one that comes first; and
    as long as that is not proven, the best proven one too.
    """
    if is_over(record, before_us=before_us):
        return frozenset()
    standing = on_timeline(backups, record.timeline)
    found: set[BackupId] = set()
    for stretch in _stretches(record, _floor(record, before_us)):
        inside = [b for b in standing if stretch.first <= _position(b).commit < stretch.end]
        for candidates in (inside, [b for b in inside if proven(b)]):
            found |= {b.id for b in _best(candidates, stretch.floor)}
    return frozenset(found)


def plan_droppable(backups: Sequence[Backup], record: Record, *, before_us: int) -> tuple[SegmentRef, ...]:
    """Return the segments of a timeline that no restore within the window reads, oldest first.

    They end before the window's first commit, and a proven base that this commit can be restored from holds all they hold.
    The segment with that commit stays, so the newest one always does; unless the whole timeline is over.
    """
    if is_over(record, before_us=before_us):
        return record.refs
    floor = _floor(record, before_us)
    first = next(_stretches(record, floor))
    standing = [b for b in on_timeline(backups, record.timeline) if proven(b) and _position(b).settled <= floor]
    held = max((_position(b).commit for b in standing if _position(b).commit >= first.first), default=0)
    old = record.refs[: _first_needed(record, before_us)]
    n_old = max((n for n, ref in enumerate(old, 1) if ref.last_commit is not None and ref.last_commit <= held), default=0)
    return old[:n_old]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Commits `first` to `end` - 1 with no hole between them; the window needs those from `floor` on."""

    first: int
    floor: int
    end: float


def _stretches(record: Record, floor: int) -> Iterator[_Stretch]:
    resumed = sorted(record.resumed)
    later = [number for number in resumed if number > floor]
    ends: list[float] = [*later, float("inf")]
    yield _Stretch(first=max((n for n in resumed if n <= floor), default=0), floor=floor, end=ends[0])
    for number, end in zip(later, ends[1:], strict=True):
        yield _Stretch(first=number, floor=number, end=end)


def _best(candidates: Sequence[Backup], floor: int) -> list[Backup]:
    """Return the newest that stands at or before `floor`, else the first after it; `candidates` oldest first."""
    before = [b for b in candidates if _position(b).settled <= floor]
    return before[-1:] or sorted(candidates, key=lambda b: _position(b).settled)[:1]


def _floor(record: Record, before_us: int) -> int:
    """Return a commit number at or below that of the window's first commit, the highest that names tell; 0 = not known."""
    at = _first_needed(record, before_us)
    if at == _live(record, before_us):
        return (record.refs[at].first_commit or 0) if record.refs else 0
    return record.refs[at].last_commit or 0


def _first_needed(record: Record, before_us: int) -> int:
    """Return the index of the segment that holds the window's first commit."""
    live = _live(record, before_us)
    if live == 0:
        return 0
    began = record.refs[live].first_us if live < len(record.refs) else None
    return live if began is not None and began <= before_us else live - 1


def _live(record: Record, before_us: int) -> int:
    """Return the index of the first segment that ends within the window."""
    return next((n for n, ref in enumerate(record.refs) if seen_us(ref) >= before_us), len(record.refs))


def _position(backup: Backup) -> Position:
    assert backup.position is not None  # `on_timeline` gives no others
    return backup.position
