"""The point-in-time window of one database in one storage: what is stored of it, and what goes when it has moved on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from continuum_tasks import failpoints
from continuum_tasks.capture.compact import lock_name
from continuum_tasks.errors import DatabaseLocked, IntegrityError, KeyringError, ObjectMissing
from continuum_tasks.history.segment_names import SegmentRef
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, Timeline
from continuum_tasks.repository.lock import hold_lock
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import delete_segment, delete_timeline, list_segments, read_segment_index, timelines
from continuum_tasks.retention.plan.window import Record, is_over, plan_bases, plan_droppable, undescribed


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpan:
    """Whose window, and when it begins (microseconds since 1970).

    `with_holes`: look for holes within it too. They need not be known as long as no backup made within it may go.
    """

    database: str
    before_us: int
    with_holes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTimeline:
    """One timeline as it is stored. `whole` is False when a segment's index could not be read: then nothing of it may go."""

    timeline: Timeline
    record: Record
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWindow:
    """All timelines of a database, and the documents that could not be read."""

    span: WindowSpan
    stored: tuple[StoredTimeline, ...]
    damaged: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Segments that went, or would; `n_timelines` went whole."""

    n_segments: int = 0
    n_timelines: int = 0
    freed_bytes: int = 0
    skipped: str = ""


def read_window(span: WindowSpan, repository: Repository) -> StoredWindow:
    """Read what is stored of a database's timelines: one listing each, and of segments no more than must be known.

    Raises StorageError.
    """
    found: list[Timeline] = []
    damaged: list[str] = []
    try:
        for _, timeline in timelines(repository, span.database):
            if isinstance(timeline, IntegrityError):
                damaged.append(timeline.message)
            else:
                found.append(timeline)
    except KeyringError as err:
        damaged.append(err.message)
    found.sort(key=lambda timeline: (timeline.created_at, timeline.id))
    newest = {timeline.host: timeline.id for timeline in found}
    stored = tuple(_stored(timeline, span, repository, current=newest[timeline.host] == timeline.id) for timeline in found)
    return StoredWindow(span=span, stored=stored, damaged=tuple(damaged))


def window_bases(window: StoredWindow, backups: Sequence[Backup]) -> frozenset[BackupId]:
    """Return the backups, of one database in one storage, that restores within the window begin with."""
    found: set[BackupId] = set()
    for one in window.stored:
        if one.whole:
            found |= plan_bases(backups, one.record, before_us=window.span.before_us)
        else:  # where holes are is not known: any that stands there may be needed
            found |= {b.id for b in backups if b.position is not None and b.position.timeline == one.timeline.id}
    return frozenset(found)


def droppable_segments(
    window: StoredWindow, backups: Sequence[Backup]
) -> Iterator[tuple[Timeline, tuple[SegmentRef, ...], bool]]:
    """Yield for each timeline the segments that nothing within the window needs, and whether all of it may go."""
    for one in window.stored:
        if one.whole:
            over = is_over(one.record, before_us=window.span.before_us)
            refs = plan_droppable(backups, one.record, before_us=window.span.before_us)
            if refs or over:
                yield one.timeline, refs, over


def would_drop(window: StoredWindow, backups: Sequence[Backup]) -> Dropped:
    """Say what `drop_segments` would delete."""
    found = list(droppable_segments(window, backups))
    return Dropped(
        n_segments=sum(len(refs) for _, refs, _ in found),
        n_timelines=sum(over for _, _, over in found),
        freed_bytes=sum(ref.size_bytes for _, refs, _ in found for ref in refs),
    )


def drop_segments(
    window: StoredWindow,
    backups: Sequence[Backup],
    *,
    repository: Repository,
    site: HostContext,
    may_delete: Callable[[], None],
) -> Dropped:
    """Delete what nothing within the window needs, oldest first, so that a cut anywhere leaves what is newer whole.

    Nothing goes while segments are being merged: the next run has it. Raises StorageError, and what `may_delete` raises.
    """
    found = list(droppable_segments(window, backups))
    if not found:
        return Dropped()
    try:
        with hold_lock(lock_name(window.span.database), repository.storage, site.contender()) as lock:
            freed = 0
            for timeline, refs, over in found:
                may_delete()
                lock.check()
                freed += _delete(timeline, refs, repository, over=over)
    except DatabaseLocked as err:
        return Dropped(skipped=err.message)
    return replace(would_drop(window, backups), freed_bytes=freed)


def _delete(timeline: Timeline, refs: Sequence[SegmentRef], repository: Repository, *, over: bool) -> int:
    if over:
        return delete_timeline(repository, timeline)
    for ref in refs:
        delete_segment(repository, ref.key)
        failpoints.reach("expire.segment_deleted")
    return sum(ref.size_bytes for ref in refs)


def _stored(timeline: Timeline, span: WindowSpan, repository: Repository, *, current: bool) -> StoredTimeline:
    record = Record(timeline=timeline.id, refs=list_segments(repository, timeline), current=current)
    if is_over(record, before_us=span.before_us):
        return StoredTimeline(timeline=timeline, record=record, whole=True)
    asked = set(undescribed(record, before_us=span.before_us))
    wanted = [ref for ref in record.refs if span.with_holes or ref in asked]
    resumed: list[int] = []
    known: dict[SegmentRef, SegmentRef] = {}
    for ref in wanted:
        try:
            commits = read_segment_index(repository, timeline, ref).head.commits
        except (IntegrityError, KeyringError, ObjectMissing):
            return StoredTimeline(timeline=timeline, record=record, whole=False)
        resumed += [commit.number for commit in commits if commit.resumed]
        first, last = commits[0], commits[-1]
        known[ref] = replace(
            ref, first_commit=first.number, last_commit=last.number, first_us=first.observed_us, last_us=last.observed_us
        )
    refs = tuple(known.get(ref, ref) for ref in record.refs)
    return StoredTimeline(timeline=timeline, record=replace(record, refs=refs, resumed=tuple(resumed)), whole=True)
