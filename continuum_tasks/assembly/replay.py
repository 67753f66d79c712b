"""Write captured commits over a backup: what a restore to any commit does after it has assembled its base.

All segments from the base to the commit must be there and follow one another before anything is written. Then they are
read newest first, so of every page one version is written, and of every segment only the blocks that are still needed
are opened. Memory is bounded by one segment (64 MiB), 16 MiB read ahead, and a bit per page.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.assembly import page_digests
from continuum_tasks.assembly.assemble import Whole
from continuum_tasks.assembly.commit_log import CommitView, TimelineLog, newest_log, timeline_logs
from continuum_tasks.assembly.fetch import EXPECTED, opened_for_writing, write_at
from continuum_tasks.errors import BackupNotFound, ObjectDamaged, ObjectMissing
from continuum_tasks.history.segment_names import SegmentRef, holes_in
from continuum_tasks.history.timeline import check_base
from continuum_tasks.layer.format import DIGEST_BYTES, lock_page, page_digest
from continuum_tasks.model import Backup, Commit, CommitRef, Position, Progress, Timeline
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import read_segment, read_segment_index
from continuum_tasks.segment.head import SegmentHead
from continuum_tasks.segment.reader import OpenedSegment
from continuum_tasks.segment.rules import check_follows

N_READERS = 8  # most segments are small: over S3 latency, not bandwidth, decides how long reading them takes
AHEAD_BYTES = 16 * 1024**2
ATTEMPTS = 3  # compaction may replace segments under a restore that runs for long


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A segment to be read, and the chain (16 bytes) before its first and after its last commit as they were proven."""

    ref: SegmentRef
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Commits up to `commit` to be written over `base`; `pieces` oldest first, none when the base is that very state."""

    base: Backup
    timeline: Timeline
    commit: Commit
    seen: CommitView
    pieces: tuple[Piece, ...]

    @property
    def ref(self) -> CommitRef:
        return self.seen.ref

    @property
    def name(self) -> str:
        return f"commit {self.commit.number} of {self.timeline.id}"

    @property
    def fetch_bytes(self) -> int:
        return sum(piece.ref.size_bytes for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The state that is there now, and what was read for it."""

    state: Whole
    fetched_bytes: int


def prepare_replay(wanted: CommitRef, base: Backup, *, repository: Repository, backups: Sequence[Backup]) -> Replay:
    """Prove that every segment from `base` to a commit is there and follows the one before it. Writes nothing.

    `backups` are named where another one would work. Raises BackupNotFound, ObjectMissing, ObjectDamaged, KeyringError.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(ObjectMissing):  # compaction may replace segments between their listing and a look into them
            return _prepare(wanted, base, repository, backups)
    return _prepare(wanted, base, repository, backups)


def _prepare(wanted: CommitRef, base: Backup, repository: Repository, backups: Sequence[Backup]) -> Replay:
    log = newest_log(timeline_logs(repository, base.database), timeline=wanted.timeline, database=base.database)
    position = _position(base, log.timeline, wanted)
    last = log.index_of(wanted.number)
    commit, seen = log.numbered(wanted.number)
    if position.commit == wanted.number:
        if base.n_pages != commit.n_pages:
            text = f"backup {base.id}: {base.n_pages} pages, but {commit.n_pages} after commit {commit.number}"
            raise ObjectDamaged(text, hint="restore the backup itself, or another commit")
        return Replay(base=base, timeline=log.timeline, commit=commit, seen=seen, pieces=())
    first = log.index_of(position.commit + 1)
    if holes_in(log.refs[first : last + 1]):
        raise log.missing(first, last)
    pieces, resumed = _pieces(log, range(first, last + 1))
    check_base(base, wanted.number, resumed, backups)
    return Replay(base=base, timeline=log.timeline, commit=commit, seen=seen, pieces=pieces)


def replay(wanted: Replay, target: Path, work: Path, *, repository: Repository) -> Generator[Progress, None, Replayed]:
    """Write the commits over the base that was assembled in `target`, and their digests over `expected` in `work`.

    Raises ObjectMissing, ObjectDamaged, KeyMissing, KeyWrong or NoSpace.
    """
    fetched, attempt = 0, 1
    while True:
        try:
            fetched += yield from _write(wanted, target, work, repository=repository)
            break
        except ObjectMissing:
            if attempt == ATTEMPTS:
                raise
            attempt += 1
            wanted = prepare_replay(wanted.ref, wanted.base, repository=repository, backups=(wanted.base,))
    n_pages = wanted.commit.n_pages
    root = page_digests.root_of(work / EXPECTED)
    state = Whole(name=wanted.name, page_size=wanted.timeline.page_size, n_pages=n_pages, root=root)
    return Replayed(state=state, fetched_bytes=fetched)


def _position(base: Backup, timeline: Timeline, wanted: CommitRef) -> Position:
    position = base.position
    if position is None or position.timeline != timeline.id or position.settled > wanted.number:
        raise BackupNotFound(
            f"backup {base.id}: is not at or before commit {wanted.number} of {timeline.id}",
            hint="name the commit without a backup: the right one is found",
        )
    if base.page_size != timeline.page_size:
        raise ObjectDamaged(
            f"backup {base.id}: pages of {base.page_size} bytes, timeline {timeline.id} has {timeline.page_size}",
            hint="they are not of one database: restore the backup itself",
        )
    return position


def _pieces(log: TimelineLog, indexes: range) -> tuple[tuple[Piece, ...], list[int]]:
    """Check that these segments follow one another; returns them, and the numbers of their resumed commits."""
    pieces: list[Piece] = []
    resumed: list[int] = []
    previous = None
    for ref, head in _heads(log, indexes):
        if previous is not None:
            check_follows(previous, head)
        resumed += [commit.number for commit in head.commits if commit.resumed]
        pieces.append(Piece(ref=ref, before=head.before, after=head.after))
        previous = head
    return tuple(pieces), resumed


def _heads(log: TimelineLog, indexes: range) -> Iterator[tuple[SegmentRef, SegmentHead]]:
    """Read what segments say of themselves, a few at a time."""

    def read(ref: SegmentRef) -> SegmentHead:
        return read_segment_index(log.repository, log.timeline, ref).head

    with ThreadPoolExecutor(N_READERS) as pool:
        for start in range(indexes.start, indexes.stop, N_READERS):
            refs = log.refs[start : min(start + N_READERS, indexes.stop)]
            yield from zip(refs, pool.map(read, refs), strict=True)


def _write(wanted: Replay, target: Path, work: Path, *, repository: Repository) -> Generator[Progress, None, int]:
    """Write every page once, from the newest segment that has it; returns the bytes read."""
    n_pages, page_size = wanted.commit.n_pages, wanted.timeline.page_size
    expected = work / EXPECTED
    os.truncate(target, n_pages * page_size)
    os.truncate(expected, n_pages * DIGEST_BYTES)
    written = bytearray(n_pages // 8 + 1)
    fetched = 0
    yield Progress(phase="replay", total_bytes=wanted.fetch_bytes)
    with opened_for_writing(str(target)) as descriptor, _mapped(expected) as sums:
        for number, (piece, segment) in enumerate(_newest_first(wanted, repository), 1):
            for pgno, page, digest in _needed(segment, wanted, written):
                write_at(descriptor, page, (pgno - 1) * page_size, str(target))
                sums[(pgno - 1) * DIGEST_BYTES : pgno * DIGEST_BYTES] = digest
            fetched += piece.ref.size_bytes
            detail = f"{number}/{len(wanted.pieces)} segments"
            yield Progress(phase="replay", n_bytes=fetched, total_bytes=wanted.fetch_bytes, detail=detail)
        for pgno in _never_written(wanted, written):
            sums[(pgno - 1) * DIGEST_BYTES : pgno * DIGEST_BYTES] = page_digest(bytes(page_size))
    return fetched


def _newest_first(wanted: Replay, repository: Repository) -> Iterator[tuple[Piece, OpenedSegment]]:
    """Read the segments whole, newest first, some ahead of the one that is being written."""

    def read(piece: Piece) -> OpenedSegment:
        return _same(read_segment(repository, wanted.timeline, piece.ref), piece)

    waiting: deque[tuple[Piece, Future[OpenedSegment]]] = deque()
    left = deque(reversed(wanted.pieces))
    n_bytes = 0
    with ThreadPoolExecutor(N_READERS) as pool:
        while left or waiting:
            while left and len(waiting) < N_READERS and (not waiting or n_bytes + left[0].ref.size_bytes <= AHEAD_BYTES):
                n_bytes += left[0].ref.size_bytes
                waiting.append((left[0], pool.submit(read, left.popleft())))
            piece, future = waiting.popleft()
            n_bytes -= piece.ref.size_bytes
            yield piece, future.result()


def _needed(segment: OpenedSegment, wanted: Replay, written: bytearray) -> Iterator[tuple[int, memoryview, bytes]]:
    """Yield the pages of a segment that no newer one had, and mark them; those beyond the end of the state are gone."""
    assert wanted.base.position is not None
    newest_of = segment.newest(wanted.commit.number, wanted.base.position.commit)
    positions = {
        position: pgno
        for pgno, position in newest_of.items()
        if pgno <= wanted.commit.n_pages and not written[pgno >> 3] & 1 << (pgno & 7)
    }
    for position, page in segment.read(positions):
        pgno = positions[position]
        written[pgno >> 3] |= 1 << (pgno & 7)
        yield pgno, page, segment.digest(position)


def _never_written(wanted: Replay, written: bytearray) -> Iterator[int]:
    """Yield the pages that the base has not and no commit wrote: free ones, which SQLite never reads. They are zeros."""
    locked = lock_page(wanted.timeline.page_size)
    for pgno in range(wanted.base.n_pages + 1, wanted.commit.n_pages + 1):
        if pgno != locked and not written[pgno >> 3] & 1 << (pgno & 7):
            yield pgno


def _same(segment: OpenedSegment, piece: Piece) -> OpenedSegment:
    if (segment.head.before, segment.head.after) != (piece.before, piece.after):
        raise ObjectDamaged(f"object {segment.name}: was replaced meanwhile", hint="find out what writes to the storage")
    return segment


def _mapped(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE)
