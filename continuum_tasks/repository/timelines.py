"""The timelines of a repository and their segments, by name.

    timelines/<database>/<timeline>.json                    what a timeline is; signed as manifests are
    segments/<database>/<timeline>/r-<seq>.segment          as captured; written once, never over another
    segments/<database>/<timeline>/m-<first seq>-<last seq>-<first commit>-<last commit>-<first time>-<last time>.segment
                                                            merged from those by compaction; times in microseconds

Seqs have ten digits. A captured segment is written only where there is none, so of two hosts that believe they capture the
same timeline one is told (`Fenced`), where the storage can do that (its `conditional_put`). Names are hints: what a segment
holds is what its sealed index says, and it is compared with its name when it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from continuum_tasks.errors import (
    Fenced,
    IntegrityError,
    NewerFormat,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StorageUnreachable,
)
from continuum_tasks.history.manifest_rules import MAX_PAGE_BYTES, MIN_PAGE_BYTES
from continuum_tasks.history.segment_names import (
    SegmentRef,
    SegmentSpan,
    cover,
    merged_key,
    parse_name,
    raw_key,
    segments_prefix,
    stale,
)
from continuum_tasks.layer.format import HEADER_BYTES, ObjectContext, decode_object_header
from continuum_tasks.layer.reader import naming
from continuum_tasks.model import DATABASE_NAME, Cipher, Timeline, TimelineId
from continuum_tasks.repository.repository import Repository
from continuum_tasks.segment.format import MAGIC
from continuum_tasks.segment.head import SealedSegment, SegmentHead
from continuum_tasks.segment.reader import OpenedSegment, open_segment, open_segment_index, segment_tail
from continuum_tasks.segment.rules import seqs_text

TAIL_BYTES = 64 * 1024  # the index of 2,000 pages is 40 KiB: one read finds where it begins, and mostly all of it
WHOLE_BYTES = 128 * 1024  # a segment up to this size is read at once: one request instead of two
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOREIGN = "objects were swapped or renamed: restore a commit before it, or a backup made after it"


def timeline_key(database: str, timeline_id: str) -> str:
    return f"timelines/{database}/{timeline_id}.json"


def timeline_key_context(repository_id: str, timeline_id: TimelineId) -> bytes:
    """What a timeline's wrapped data key is bound to, so it cannot be moved to another timeline."""
    return f"continuum timeline key v1\0{repository_id}\0{timeline_id}".encode()


def segment_context(timeline: Timeline, first_seq: int, last_seq: int) -> ObjectContext:
    """What a segment is bound to: repository, timeline and the seqs it covers."""
    return ObjectContext(
        repository_id=timeline.repository_id,
        backup_id=f"{timeline.id}/{first_seq}-{last_seq}",
        kind="segment",
        index=first_seq,
    )


def put_timeline(repository: Repository, timeline: Timeline) -> str:
    """Write the document of a new timeline and return its key; the same one twice is fine.

    Raises Fenced when another one of that id is there, KeyMissing, ObjectDamaged for one that would not read back.
    """
    key = timeline_key(timeline.database, timeline.id)
    _check_timeline(timeline, key)
    data = repository.encode_signed("timeline", timeline, wrapped=timeline.wrapped_key)
    _put_once(repository, key, data, hashlib.sha256(data).hexdigest(), f"timeline {timeline.id} of {timeline.database}")
    return key


def check_timeline(repository: Repository, timeline: Timeline) -> None:
    """Refuse to put segments where their timeline's document is gone, as into the mount point of a disk that is away.

    Raises StorageUnreachable.
    """
    key = timeline_key(timeline.database, timeline.id)
    try:
        repository.storage.stat(key)
    except ObjectMissing as err:
        raise StorageUnreachable(
            f"storage {repository.name}: object {key}, which was there, is missing",
            hint="is its disk mounted, the bucket right? if it is gone for good: stop the capture, move its standing.json in"
            " state_dir away, and start it again",
        ) from err


def timeline_keys(repository: Repository) -> list[str]:
    """Return the keys of all timelines, by one listing."""
    return [info.key for info in repository.storage.list("timelines/")]


def timelines(repository: Repository, database: str = "") -> Iterator[tuple[str, Timeline | IntegrityError]]:
    """Read the timelines of one database, or of all, with their keys; a damaged or forged one comes as its error."""
    prefix = f"timelines/{database}/" if database else "timelines/"
    for key, data in repository.fetched([info.key for info in repository.storage.list(prefix)]):
        try:
            yield key, data if isinstance(data, IntegrityError) else _decode_timeline(repository, key, data)
        except IntegrityError as err:
            yield key, err


def read_timelines(repository: Repository, database: str = "") -> list[Timeline]:
    """Return the timelines that this version reads, oldest first; `split_timelines` also tells of the others.

    One that names another as the one before it comes after that, also where a clock was set back in between. Raises
    ObjectDamaged for the first that is not sound (`timelines` passes it by).
    """
    return split_timelines(repository, database)[0]


def split_timelines(repository: Repository, database: str = "") -> tuple[list[Timeline], list[NewerFormat]]:
    """As `read_timelines`, and beside them what says of each that a newer version wrote it."""
    found: list[Timeline] = []
    newer: list[NewerFormat] = []
    for _, timeline in timelines(repository, database):
        if isinstance(timeline, NewerFormat):
            newer.append(timeline)
        elif isinstance(timeline, IntegrityError):
            raise timeline
        else:
            found.append(timeline)
    return in_order(found), newer


def in_order(found: Sequence[Timeline]) -> list[Timeline]:
    """Return timelines oldest first."""
    by_id = {timeline.id: timeline for timeline in found}

    def began(timeline: Timeline) -> tuple[datetime, int]:
        at, depth, seen = timeline.created_at, 0, {timeline.id}
        while timeline.previous in by_id and timeline.previous not in seen:
            timeline = by_id[timeline.previous]
            seen.add(timeline.id)
            at, depth = max(at, timeline.created_at), depth + 1
        return at, depth

    return sorted(found, key=lambda timeline: (*began(timeline), timeline.id))


def delete_timeline(repository: Repository, timeline: Timeline) -> int:
    """Delete a timeline, its segments first and the oldest of them first; returns the bytes freed. Doing it again ends it."""
    n_bytes = 0
    for ref in stored_segments(repository, timeline):
        repository.storage.delete(ref.key)
        n_bytes += ref.size_bytes
    repository.storage.delete(timeline_key(timeline.database, timeline.id))
    return n_bytes


def put_segment(repository: Repository, timeline: Timeline, sealed: SealedSegment) -> str:
    """Store a segment as it was captured and return its key; storing the same bytes again is fine.

    Raises Fenced when other bytes are there: another host captures this timeline.
    """
    head = sealed.head
    if head.timeline != timeline.id or head.first_seq != head.last_seq:
        raise RuntimeError(f"segment {seqs_text(head)} of {head.timeline} is none that was captured on {timeline.id}")
    return put_spooled(repository, timeline, head.first_seq, sealed.data)


def put_spooled(repository: Repository, timeline: Timeline, seq: int, data: bytes | bytearray) -> str:
    """As `put_segment`, of the bytes of segment `seq` that was sealed before."""
    key = raw_key(timeline.database, timeline.id, seq)
    what = f"segment {seq} of timeline {timeline.id} of {timeline.database}"
    _put_once(repository, key, data, hashlib.sha256(data).hexdigest(), what)
    return key


def put_merged(repository: Repository, timeline: Timeline, sealed: SealedSegment) -> str:
    """Store a merged segment and return its key. One that is there and holds the same commits is left as it is.

    What it was merged from may be deleted once it has been read back: a storage may lie.
    """
    head = sealed.head
    if head.timeline != timeline.id:
        raise RuntimeError(f"segment {seqs_text(head)} of {head.timeline} is none of {timeline.id}")
    key = merged_key(timeline.database, timeline.id, _span(head))
    try:
        repository.storage.put(key, sealed.data, only_new=True)
    except ObjectExists:
        if not _holds(repository, timeline, key, head):
            repository.storage.put(key, sealed.data)
    return key


def stored_segments(repository: Repository, timeline: Timeline) -> tuple[SegmentRef, ...]:
    """Return all segments of a timeline, by one listing; objects that have another name are passed over."""
    listed = repository.storage.list(segments_prefix(timeline.database, timeline.id))
    refs = (
        parse_name(info.key, size_bytes=info.size_bytes, modified_us=(info.modified_at - _EPOCH) // timedelta(microseconds=1))
        for info in listed
    )
    return tuple(sorted((ref for ref in refs if ref is not None), key=lambda ref: (ref.first_seq, ref.last_seq, ref.key)))


def list_segments(repository: Repository, timeline: Timeline) -> tuple[SegmentRef, ...]:
    """Return the segments of a timeline that count, in order, none overlapping another (`history.segment_names.cover`)."""
    return cover(stored_segments(repository, timeline))


def stale_segments(repository: Repository, timeline: Timeline) -> tuple[str, ...]:
    """Return the keys of segments that a wider merged one stands for: compaction deletes them."""
    return tuple(ref.key for ref in stale(stored_segments(repository, timeline)))


def read_segment_index(repository: Repository, timeline: Timeline, ref: SegmentRef) -> OpenedSegment:
    """Open a segment without its pages: one request for a small one, else two or three.

    Raises ObjectMissing, ObjectDamaged (also when it holds other commits than its name says), KeyMissing or KeyWrong.
    """
    if ref.size_bytes <= WHOLE_BYTES:
        return read_segment(repository, timeline, ref)
    storage, size = repository.storage, ref.size_bytes
    tail = storage.get(ref.key, offset=size - TAIL_BYTES, length=TAIL_BYTES)
    with naming(ref.key, hint=_FOREIGN):
        index_offset = _index_offset(repository, ref, tail)
    missing = max(0, size - TAIL_BYTES - index_offset)
    if missing:
        tail = storage.get(ref.key, offset=index_offset, length=missing) + tail
    opened = open_segment_index(
        storage.get(ref.key, length=HEADER_BYTES),
        tail[index_offset - size :],
        context=segment_context(timeline, ref.first_seq, ref.last_seq),
        data_key=_data_key(repository, timeline),
        name=ref.key,
        size_bytes=size,
    )
    return _as_named(opened, timeline, ref)


def _index_offset(repository: Repository, ref: SegmentRef, tail: bytes) -> int:
    """Return where the index begins. Raises NewerVersion, ValueError: what follows the header of a newer one is not known."""
    try:
        index_offset = segment_tail(tail)
        if HEADER_BYTES <= index_offset < ref.size_bytes:
            return index_offset
    except ValueError:
        decode_object_header(repository.storage.get(ref.key, length=HEADER_BYTES), magic=MAGIC)
        raise
    decode_object_header(repository.storage.get(ref.key, length=HEADER_BYTES), magic=MAGIC)
    raise ValueError(f"its index begins at byte {index_offset} of {ref.size_bytes}")


def read_segment(repository: Repository, timeline: Timeline, ref: SegmentRef) -> OpenedSegment:
    """Open a whole segment in memory. Raises as `read_segment_index`, and while its pages are read."""
    opened = open_segment(
        repository.storage.get(ref.key),
        context=segment_context(timeline, ref.first_seq, ref.last_seq),
        data_key=_data_key(repository, timeline),
        name=ref.key,
    )
    return _as_named(opened, timeline, ref)


def delete_segment(repository: Repository, key: str) -> None:
    """Delete one segment; nothing happens when it is gone. Raises RuntimeError for what is no segment's name."""
    if parse_name(key, size_bytes=0, modified_us=0) is None:
        raise RuntimeError(f"{key} is no segment's name")
    repository.storage.delete(key)


def _put_once(repository: Repository, key: str, data: bytes | bytearray, sha256: str, what: str) -> None:
    try:
        repository.storage.put(key, data, only_new=True)
    except ObjectExists as err:
        if not _is_there(repository, key, len(data), sha256):
            raise Fenced(
                f"{what}: storage {repository.name} has another one, which this host did not write",
                hint="another host, perhaps a clone of this one, captures the same timeline: stop one of them;"
                " here `continuum backup create --strategy continuous` begins a new timeline",
            ) from err


def _is_there(repository: Repository, key: str, size_bytes: int, sha256: str) -> bool:
    """Tell whether an object has these bytes; one that has just been deleted has not."""
    try:
        if repository.storage.stat(key).size_bytes != size_bytes:
            return False
        return hashlib.sha256(repository.storage.get(key)).hexdigest() == sha256
    except ObjectMissing:
        return False


def _holds(repository: Repository, timeline: Timeline, key: str, head: SegmentHead) -> bool:
    """Tell whether a sound segment with these very commits is stored under a key."""
    try:
        size_bytes = repository.storage.stat(key).size_bytes
        ref = parse_name(key, size_bytes=size_bytes, modified_us=0)
        return ref is not None and read_segment(repository, timeline, ref).head == head
    except (ObjectDamaged, ObjectMissing):
        return False


def _decode_timeline(repository: Repository, key: str, data: bytes) -> Timeline:
    timeline = repository.decode_signed("timeline", Timeline, key, data)
    _check_timeline(timeline, key)
    return timeline


def _check_timeline(timeline: Timeline, key: str) -> None:
    """Raise ObjectDamaged, naming the object `key`, unless the document keeps every rule."""
    size = timeline.page_size
    rules = (
        (key == timeline_key(timeline.database, timeline.id), f"holds {timeline.id} of {timeline.database[:64]!r}"),
        (DATABASE_NAME.fullmatch(timeline.database) is not None, "its database has a name that is not allowed"),
        (MIN_PAGE_BYTES <= size <= MAX_PAGE_BYTES and size & (size - 1) == 0, f"page size {size} is not one of SQLite's"),
        ((timeline.wrapped_key is None) == (timeline.cipher is Cipher.NONE), f"says {timeline.cipher}, its key otherwise"),
        (timeline.previous != timeline.id, "comes after itself"),
        (0 <= timeline.followed_until_us < 1 << 63, "says until when the one before it was followed, and lies"),
    )
    for holds, what in rules:
        if not holds:
            raise ObjectDamaged(f"object {key}: {what}", hint="it was forged, swapped, or written by a newer version")


def _data_key(repository: Repository, timeline: Timeline) -> bytes | None:
    return repository.unwrap(timeline.wrapped_key, context=timeline_key_context(timeline.repository_id, timeline.id))


def _as_named(opened: OpenedSegment, timeline: Timeline, ref: SegmentRef) -> OpenedSegment:
    """Raise ObjectDamaged unless a segment holds what its name, which plans were made by, says."""
    head = opened.head
    says = (timeline.id, timeline.page_size, ref.first_seq, ref.last_seq)
    if says != (head.timeline, head.page_size, head.first_seq, head.last_seq) or not (ref.is_raw or _is_span(ref, head)):
        raise ObjectDamaged(f"object {ref.key}: holds segment {seqs_text(head)} of {head.timeline}", hint=_FOREIGN)
    return opened


def _is_span(ref: SegmentRef, head: SegmentHead) -> bool:
    span = _span(head)
    return (span.first_commit, span.last_commit, span.first_us, span.last_us) == (
        ref.first_commit,
        ref.last_commit,
        ref.first_us,
        ref.last_us,
    )


def _span(head: SegmentHead) -> SegmentSpan:
    first, last = head.commits[0], head.commits[-1]
    return SegmentSpan(
        first_seq=head.first_seq,
        last_seq=head.last_seq,
        first_commit=first.number,
        last_commit=last.number,
        first_us=first.observed_us,
        last_us=last.observed_us,
    )
