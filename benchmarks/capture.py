"""Stored bytes for an hour of the sample writer: every commit by itself against Litestream's format, from the same WAL frames.

The clock is simulated: `rate` commits make a second, so an hour takes minutes. Litestream ships the newest version of each page
that changed in a second, and later keeps files of 30 seconds; we ship and keep every commit.
"""

from __future__ import annotations

import sqlite3
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks import database, ltx, report
from continuum_tasks.capture.reader.pending import Pending
from continuum_tasks.layer.draft import ChunkOptions
from continuum_tasks.layer.format import ObjectContext
from continuum_tasks.model import Cipher, Codec, Commit, Mark, TimelineId
from continuum_tasks.sample import writer
from continuum_tasks.segment.head import SegmentDraft, SegmentHead
from continuum_tasks.segment.merge import merge, n_mergeable
from continuum_tasks.segment.reader import OpenedSegment, open_segment
from continuum_tasks.segment.writer import write_segment
from continuum_tasks.wal.format import HEADER_BYTES, decode_wal_header
from continuum_tasks.wal.frames import read_frames

RATE = 10  # commits a second: what the sample writer does when it is told nothing else
SECONDS = 3600
_MINUTE, _THIRTY, _TEN_MINUTES = 60, 30, 600
_MEMORY = Path("/dev/shm")
_KEY = bytes(range(32))
_BEFORE = bytes(range(16))
_TIMELINE = TimelineId("timeline-20260101-000000-00000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """What was committed in one second: the commits in order, each with its pages."""

    commits: tuple[Commit, ...]
    pgnos: array[int]
    pages: tuple[memoryview, ...]

    def newest(self) -> dict[int, memoryview]:
        return dict(zip(self.pgnos, self.pages, strict=True))


@dataclass(slots=True, kw_only=True)
class Stored:
    """Bytes and files so far."""

    n_bytes: int = 0
    n_files: int = 0

    def add(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        self.n_files += 1


def run(size_bytes: int, *, seconds: int = SECONDS, rate: int = RATE) -> str:
    """Return a table of bytes and files by format, for so many simulated seconds on a sample of this size."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "captured.db"
        database.copy(database.sample(size_bytes), path)
        what = f"{rate} commits a second, on {size_bytes / 2**20:,.0f} MiB"
        return _compared(_seconds(path, seconds=seconds, rate=rate), what=what)


def _compared(found: Iterator[Second], *, what: str) -> str:
    log = _Log()
    theirs, theirs_kept, raw_bytes, n_commits = Stored(), Stored(), 0, 0
    thirty: dict[int, memoryview] = {}
    for second in found:
        log.add(second)
        theirs.add(ltx.file_bytes(second.newest()))
        thirty |= second.newest()
        if theirs.n_files % _THIRTY == 0:
            theirs_kept.add(ltx.file_bytes(thirty))
            thirty = {}
        raw_bytes += sum(map(len, second.pages))
        n_commits += len(second.commits)
    log.compact()
    rows = [
        ("", "MB", "files", "restores to"),
        ("pages of all commits, raw", f"{raw_bytes / 1e6:,.1f}", "", ""),
        ("Litestream's format, each second", f"{theirs.n_bytes / 1e6:,.1f}", f"{theirs.n_files:,}", "each second"),
        ("ours, each second", f"{log.shipped.n_bytes / 1e6:,.1f}", f"{log.shipped.n_files:,}", "each commit"),
        ("Litestream's format, later", f"{theirs_kept.n_bytes / 1e6:,.1f}", f"{theirs_kept.n_files:,}", "each half minute"),
        ("ours, merged to ten minutes", f"{log.kept.n_bytes / 1e6:,.1f}", f"{log.kept.n_files:,}", "each commit"),
    ]
    said = f"{theirs.n_files:,} s of the sample writer, {what}, {n_commits:,} in all; ours with the default codec, encrypted"
    ratios = (
        f"- ours / Litestream's, as shipped each second: {log.shipped.n_bytes / theirs.n_bytes:.2f}",
        f"- ours, every commit kept, / Litestream's as shipped: {log.kept.n_bytes / theirs.n_bytes:.2f}",
        f"- ours, every commit kept, / Litestream's half minutes: {log.kept.n_bytes / theirs_kept.n_bytes:.2f}",
    )
    return f"{said}\n\n{report.table(rows)}\n\n" + "\n".join(ratios)


class _Log:
    """Our segments: one a second, merged every ten minutes."""

    def __init__(self) -> None:
        self.shipped, self.kept = Stored(), Stored()
        self._head: SegmentHead | None = None
        self._waiting: list[OpenedSegment] = []

    def add(self, second: Second) -> None:
        seq = 2 if self._head is None else self._head.last_seq + 1  # segment 1 would hold the state found at the start
        draft = SegmentDraft(
            timeline=_TIMELINE,
            first_seq=seq,
            last_seq=seq,
            page_size=len(second.pages[0]),
            before=_BEFORE if self._head is None else self._head.after,
            mark=Mark(salts="00" * 8, frame=second.commits[-1].last_frame, checksum=(0, 0)),
            source="1:1",
            commits=second.commits,
            pgnos=second.pgnos,
        )
        sealed = write_segment(draft, second.pages, context=_context(seq, seq), options=_options(draft.page_size))
        self.shipped.add(len(sealed.data))
        self._head = sealed.head
        name = f"segment {seq}"
        self._waiting.append(open_segment(sealed.data, context=_context(seq, seq), data_key=_KEY, name=name))
        if len(self._waiting) == _TEN_MINUTES:
            self.compact()

    def compact(self) -> None:
        """Merge what waits into as few segments as can hold it."""
        while self._waiting:
            n_taken = n_mergeable([segment.head for segment in self._waiting])
            taken, self._waiting = self._waiting[:n_taken], self._waiting[n_taken:]
            first, last = taken[0].head.first_seq, taken[-1].head.last_seq
            merged = merge(taken, context=_context(first, last), options=_options(taken[0].head.page_size))
            self.kept.add(len(merged.data))


def _context(first_seq: int, last_seq: int) -> ObjectContext:
    return ObjectContext(
        repository_id="benchmark", backup_id=f"{_TIMELINE}/{first_seq}-{last_seq}", kind="segment", index=first_seq
    )


def _options(page_size: int) -> ChunkOptions:
    return ChunkOptions(
        page_size=page_size, codec=Codec.ZSTD, level=1, cipher=Cipher.AES_256_GCM, data_key=_KEY, salt=bytes(32)
    )


def _seconds(path: Path, *, seconds: int, rate: int) -> Iterator[Second]:
    """Let the sample writer commit minute by minute, and yield what the log then has of each second."""
    begun = 1
    for minute in range(0, seconds, _MINUTE):
        n_seconds = min(_MINUTE, seconds - minute)
        pending = _minute(path, n_commits=n_seconds * rate, number=begun + 1)
        begun += n_seconds * rate
        at = 0
        for start in range(0, len(pending.commits), rate):
            commits = tuple(pending.commits[start : start + rate])
            n_pages = sum(commit.n_stored for commit in commits)
            yield Second(commits=commits, pgnos=pending.pgnos[at : at + n_pages], pages=tuple(pending.pages[at : at + n_pages]))
            at += n_pages


def _minute(path: Path, *, n_commits: int, number: int) -> Pending:
    """Commit so often while a reader keeps the log whole, read it, and have it begun anew.

    All connections are this process's and of one library; of the files it opens only the -wal, which carries no locks.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        for _ in writer.write(path, writer.WritePlan(rate=1e6, commits=n_commits)):
            pass
        pending = _read(path.with_name(f"{path.name}-wal"), number=number)
        reader.execute("COMMIT")
        reader.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if len(pending.commits) != n_commits:
        raise RuntimeError(f"{len(pending.commits)} commits in the log, {n_commits} were made")
    return pending


def _read(wal: Path, *, number: int) -> Pending:
    """Read every frame of a log that nobody writes; the first commit has this number."""
    data = wal.read_bytes()
    header = decode_wal_header(data[:HEADER_BYTES])
    frames = read_frames(memoryview(data)[HEADER_BYTES:], header, first=1, before=header.checksum)
    pending = Pending()
    pending.add(frames, number=number, observed_us=number, unseen_us=0)
    return pending
