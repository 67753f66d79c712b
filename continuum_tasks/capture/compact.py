"""Merge a database's older segments into larger ones: fewer objects, fewer bytes, every commit still there.

Works under a lock of its own, beside backups. Of each group: read all, seal one, put it, read that back, and only then
delete what it was made of. Whatever dies leaves every commit stored once at least; doubles go with the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from continuum_tasks import failpoints
from continuum_tasks.capture.plan import compaction
from continuum_tasks.capture.plan.compaction import Bounds
from continuum_tasks.errors import ObjectDamaged
from continuum_tasks.history import segment_names
from continuum_tasks.history.segment_names import SegmentRef
from continuum_tasks.host import measure
from continuum_tasks.host.site import HostContext
from continuum_tasks.layer.draft import ChunkOptions
from continuum_tasks.layer.format import DIGEST_BYTES
from continuum_tasks.model import Progress, Timeline, TimelineId
from continuum_tasks.repository.lock import Held, hold_lock
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import (
    delete_segment,
    put_merged,
    read_segment,
    read_segment_index,
    read_timelines,
    segment_context,
    stored_segments,
    timeline_key_context,
)
from continuum_tasks.segment.head import SealedSegment
from continuum_tasks.segment.merge import merge, n_mergeable
from continuum_tasks.segment.reader import OpenedSegment

N_READERS = 8  # segments are small: latency, not bandwidth, decides how long reading them takes
PAGE_OF_LISTING = 1000  # keys that one request lists


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactRequest:
    """Whose segments; no run does more than `bounds`, in each timeline."""

    database: str
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """One merge, done or planned: which seqs of which timeline, of how many segments and bytes, into how many bytes."""

    timeline: TimelineId
    first_seq: int
    last_seq: int
    n_segments: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What was done, or with `dry_run` what would be. `n_left`: merges for the next run.

    `n_stale` segments were doubles that a killed run had left. `foreign`: segments that hold other commits than the merged
    one that covers them, as a second writer leaves them; they stay. `n_requests` are those to the storage, its lock's
    apart.
    """

    database: str
    storage: str
    dry_run: bool
    merges: tuple[Merged, ...]
    n_left: int
    n_stale: int
    foreign: tuple[str, ...]
    n_requests: int
    read_bytes: int
    written_bytes: int
    freed_bytes: int
    seconds: float


def lock_name(database: str) -> str:
    """Return what is locked while segments of a database are merged or deleted; no database can have that name."""
    return f"segments.{database}"


def preview_compaction(
    request: CompactRequest, *, repository: Repository, site: HostContext
) -> Generator[Progress, None, Compacted]:
    """Say what `compact_segments` would do now; takes no lock and changes nothing. Raises StorageError, IntegrityError."""
    yield Progress(phase="plan")
    work = _Work(request=request, repository=repository, site=site)
    for timeline in _timelines(work):
        plan = _plan(_listed(timeline, work), work)
        work.n_left += plan.n_left
        work.merges += [_merged(timeline, group, written_bytes=0) for group in plan.merges]
        work.read_bytes += plan.read_bytes
    return _compacted(work, dry_run=True)


def compact_segments(
    request: CompactRequest, *, repository: Repository, site: HostContext, check_lease: Callable[[], None]
) -> Generator[Progress, None, Compacted]:
    """Merge what is due; yields progress. Doing it twice does nothing more. `check_lease` raises when the job was lost.

    Raises DatabaseLocked while another run is at it, StorageError, ObjectDamaged naming what cannot be merged, KeyringError,
    StaleClaim; what was merged until then is merged.
    """
    with hold_lock(lock_name(request.database), repository.storage, site.contender()) as lock:
        failpoints.reach("compact.locked")
        work = _Work(request=request, repository=repository, site=site, lock=lock, check_lease=check_lease)
        yield Progress(phase="plan")
        for timeline in _timelines(work):
            plan = _plan(_cleared(timeline, _listed(timeline, work), work), work)
            work.n_left += plan.n_left
            for number, group in enumerate(plan.merges, 1):
                _merge(timeline, group, work)
                yield Progress(phase="merge", detail=f"{timeline.id}: {number}/{len(plan.merges)} merges")
    done = _compacted(work, dry_run=False)
    measure.compaction(done.database, done.storage, _values(done), site=site)
    return done


@dataclass(slots=True, kw_only=True)
class _Work:
    """One run: what it is given, and what it did so far."""

    request: CompactRequest
    repository: Repository
    site: HostContext
    lock: Held | None = None
    check_lease: Callable[[], None] = lambda: None
    begun: float = field(init=False)
    merges: list[Merged] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    n_left: int = 0
    n_stale: int = 0
    n_requests: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    freed_bytes: int = 0

    def __post_init__(self) -> None:
        self.begun = self.site.clock.monotonic()

    def may_delete(self) -> None:
        self.check_lease()
        if self.lock is not None:
            self.lock.check()

    def delete(self, ref: SegmentRef) -> None:
        delete_segment(self.repository, ref.key)
        self.n_requests += 1
        self.freed_bytes += ref.size_bytes


def _timelines(work: _Work) -> list[Timeline]:
    """Return this host's; what another one captures is its own to merge."""
    found = read_timelines(work.repository, work.request.database)
    work.n_requests += 1 + len(found)
    return [timeline for timeline in found if timeline.host == work.site.host]


def _listed(timeline: Timeline, work: _Work) -> tuple[SegmentRef, ...]:
    stored = stored_segments(work.repository, timeline)
    work.n_requests += 1 + len(stored) // PAGE_OF_LISTING
    return stored


def _plan(stored: Sequence[SegmentRef], work: _Work) -> compaction.CompactionPlan:
    """Plan; what time it is says the newest segment, so an idle timeline stays as it is and costs nothing."""
    now_us = max((ref.modified_us for ref in stored), default=0)
    return compaction.plan_compaction(segment_names.cover(stored), now_us=now_us, bounds=work.request.bounds)


def _cleared(timeline: Timeline, stored: Sequence[SegmentRef], work: _Work) -> tuple[SegmentRef, ...]:
    """Delete the doubles that a killed run left; returns what is left. A merged segment may never have been read back."""
    gone: set[str] = set()
    for over in segment_names.cover(stored):
        parts = [
            ref for ref in segment_names.stale(stored) if over.first_seq <= ref.first_seq and ref.last_seq <= over.last_seq
        ]
        if parts:
            gone |= _settle(timeline, over, parts, work)
    return tuple(ref for ref in stored if ref.key not in gone)


def _settle(timeline: Timeline, over: SegmentRef, parts: Sequence[SegmentRef], work: _Work) -> set[str]:
    """Keep a merged segment or what it was made of, and delete the other; returns the names that went."""
    try:
        work.n_requests += 1
        whole = _proven(timeline, over, work.repository)
    except ObjectDamaged:
        if sum(ref.n_seq for ref in segment_names.cover(parts)) < over.n_seq:
            raise
        work.may_delete()
        work.delete(over)
        return {over.key}
    gone: set[str] = set()
    for ref in parts:
        work.n_requests += 1
        if not _is_part(read_segment_index(work.repository, timeline, ref), whole):
            work.foreign.append(ref.key)
            continue
        work.may_delete()
        work.delete(ref)
        work.n_stale += 1
        gone.add(ref.key)
    return gone


def _is_part(one: OpenedSegment, whole: OpenedSegment) -> bool:
    first, last = one.head.commits[0].number, one.head.commits[-1].number
    inside = tuple(commit for commit in whole.head.commits if first <= commit.number <= last)
    if inside != one.head.commits:
        return False
    span = slice(whole.span(first).start * DIGEST_BYTES, whole.span(last).stop * DIGEST_BYTES)
    return whole.index.digests[span] == one.index.digests


def _merge(timeline: Timeline, group: Sequence[SegmentRef], work: _Work) -> None:
    """Merge one group, in as many segments as it takes."""
    with ThreadPoolExecutor(N_READERS) as pool:
        opened = list(pool.map(lambda ref: read_segment(work.repository, timeline, ref), group))
    work.n_requests += len(group)
    work.read_bytes += sum(ref.size_bytes for ref in group)
    at = 0
    while at < len(opened):
        n = n_mergeable([one.head for one in opened[at:]])
        if n > 1:
            _replace(timeline, group[at : at + n], opened[at : at + n], work)
        at += max(1, n)


def _replace(timeline: Timeline, refs: Sequence[SegmentRef], opened: Sequence[OpenedSegment], work: _Work) -> None:
    repository = work.repository
    context = segment_context(timeline, refs[0].first_seq, refs[-1].last_seq)
    sealed = merge(opened, context=context, options=_options(timeline, work))
    work.may_delete()
    key = put_merged(repository, timeline, sealed)
    failpoints.reach("compact.merged_put")
    size_bytes = _read_back(key, timeline, sealed, repository)
    work.n_requests += 3
    work.read_bytes += size_bytes
    work.written_bytes += size_bytes
    failpoints.reach("compact.read_back")
    for ref in refs:
        work.delete(ref)
        failpoints.reach("compact.part_deleted")
    work.merges.append(_merged(timeline, refs, written_bytes=size_bytes))


def _read_back(key: str, timeline: Timeline, sealed: SealedSegment, repository: Repository) -> int:
    """Prove that what is stored is what was merged; returns its size. Raises ObjectDamaged, and then it is gone again."""
    size_bytes = repository.storage.stat(key).size_bytes
    ref = segment_names.parse_name(key, size_bytes=size_bytes, modified_us=0)
    assert ref is not None
    try:
        head = _proven(timeline, ref, repository).head
    except ObjectDamaged:
        delete_segment(repository, key)  # it would hide what it was made of
        raise
    assert head == sealed.head  # `put_merged` leaves no other one under this name
    return size_bytes


def _proven(timeline: Timeline, ref: SegmentRef, repository: Repository) -> OpenedSegment:
    """Open a segment and every page of it. Raises ObjectDamaged."""
    opened = read_segment(repository, timeline, ref)
    for _ in opened.pages():
        pass
    return opened


def _options(timeline: Timeline, work: _Work) -> ChunkOptions:
    context = timeline_key_context(timeline.repository_id, timeline.id)
    return ChunkOptions(
        page_size=timeline.page_size,
        codec=work.site.settings.compression_algorithm,
        level=work.site.settings.compression_level,
        cipher=timeline.cipher,
        data_key=work.repository.unwrap(timeline.wrapped_key, context=context),
        salt=work.site.random_bytes(32),
    )


def _merged(timeline: Timeline, group: Sequence[SegmentRef], *, written_bytes: int) -> Merged:
    return Merged(
        timeline=timeline.id,
        first_seq=group[0].first_seq,
        last_seq=group[-1].last_seq,
        n_segments=len(group),
        read_bytes=sum(ref.size_bytes for ref in group),
        written_bytes=written_bytes,
    )


def _compacted(work: _Work, *, dry_run: bool) -> Compacted:
    return Compacted(
        database=work.request.database,
        storage=work.repository.name,
        dry_run=dry_run,
        merges=tuple(work.merges),
        n_left=work.n_left,
        n_stale=work.n_stale,
        foreign=tuple(work.foreign),
        n_requests=work.n_requests,
        read_bytes=work.read_bytes,
        written_bytes=work.written_bytes,
        freed_bytes=work.freed_bytes,
        seconds=round(work.site.clock.monotonic() - work.begun, 3),
    )


def _values(done: Compacted) -> dict[str, float]:
    return {
        "compaction_duration_seconds": done.seconds,
        "compaction_requests": float(done.n_requests),
        "compaction_read_bytes": float(done.read_bytes),
        "compaction_written_bytes": float(done.written_bytes),
    }
