"""Record the commits of a database from its -wal file into a repository, without the product's capture, and know each state.

The frames are parsed here, and the state after each commit comes from SQLite: it recovers a copy of the database file with
the -wal cut off after that commit's last frame. Neither shares a line with what is tested.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import struct
import subprocess
from array import array
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType

import apsw

from continuum_tasks.layer.draft import ChunkOptions
from continuum_tasks.model import Backup, Cipher, Codec, Commit, Mark, Position, Timeline, TimelineId
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import put_segment, put_timeline, segment_context, timeline_key_context
from continuum_tasks.runtime import Runtime
from continuum_tasks.segment.head import SegmentDraft
from continuum_tasks.segment.writer import write_segment

SECOND_US = 1_000_000
HEADER, FRAME = 32, 24


@dataclass(slots=True)
class Captured:
    """One commit and its pages by pgno; `wal` is the number of bytes of the -wal up to it, `copy` the file under it."""

    commit: Commit
    pages: dict[int, bytes]
    copy: Path
    wal: bytes


@dataclass
class Recorder:
    """A database that is written here and recorded into `repository`. `now_us` is when the next commit is seen."""

    path: Path
    repository: Repository
    scratch: Path
    database: str
    now_us: int
    key_id: str = ""
    timeline: Timeline = field(init=False)
    captured: list[Captured] = field(default_factory=list)
    reasons: list[tuple[int, str]] = field(default_factory=list)
    previous: TimelineId | None = None

    def __enter__(self) -> Recorder:
        self.connection = apsw.Connection(str(self.path))
        self.connection.execute(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA wal_checkpoint(TRUNCATE)"
        ).fetchall()
        self.page_size = int(self.connection.execute("PRAGMA page_size").fetchall()[0][0])
        self.seq, self.chain, self.pending, self.frame, self.salts = 0, bytes(16), list[Captured](), 0, b""
        self._begin()
        self._copy()
        self.resume(unseen_us=0, reason="capture began")
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.connection.close()

    def run(self, sql: str, *, seconds: float = 1) -> Commit:
        """Run one transaction, seen so many seconds after the one before it. Returns its commit."""
        self.connection.execute(f"BEGIN IMMEDIATE; {sql}; COMMIT" if not sql.startswith("VACUUM") else sql).fetchall()
        return self.look(seconds=seconds)

    def look(self, *, seconds: float = 1) -> Commit:
        """Take what was committed since the last look; it must be one transaction."""
        data = self._wal()
        if data[16:24] != self.salts:
            self.salts, self.frame = data[16:24], 0
        size = FRAME + self.page_size
        pages: dict[int, bytes] = {}
        first, n_pages = self.frame + 1, 0
        while not n_pages:
            at = HEADER + self.frame * size
            pgno, n_pages = struct.unpack(">II", data[at : at + 8])
            assert data[at + 8 : at + 16] == self.salts, "no commit to be seen"
            pages[pgno] = data[at + FRAME : at + size]
            self.frame += 1
        commit = self._commit(n_pages, len(pages), first, self.frame, seconds=seconds)
        self._add(Captured(commit=commit, pages=pages, copy=self.copy, wal=data[: HEADER + self.frame * size]))
        return commit

    def checkpoint(self, mode: str = "TRUNCATE") -> None:
        """Let SQLite copy all frames back: the next commit is in a new WAL."""
        self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        self._copy()

    def resume(self, *, unseen_us: int, reason: str) -> Commit:
        """Find the present state, as capture does when it begins or goes on after a hole of `unseen_us`."""
        self.checkpoint()
        data = self.copy.read_bytes()
        self.frame, self.salts = 0, b""
        self.now_us += unseen_us
        commit = Commit(
            number=self.number + 1,
            n_pages=len(data) // self.page_size,
            n_stored=1,
            first_frame=0,
            last_frame=0,
            observed_us=self.now_us,
            unseen_us=unseen_us,
            resumed=True,
        )
        self.reasons.append((commit.number, reason))
        self._add(Captured(commit=commit, pages={1: data[: self.page_size]}, copy=self.copy, wal=b""))
        return commit

    def ship(self) -> str:
        """Seal what is pending as the next segment and store it; returns its key."""
        draft = self.draft()
        sealed = write_segment(
            draft,
            [memoryview(one.pages[pgno]) for one in self.pending for pgno in sorted(one.pages)],
            context=segment_context(self.timeline, draft.first_seq, draft.last_seq),
            options=self.options(),
        )
        self.seq, self.chain = draft.last_seq, sealed.head.after
        self.pending, self.reasons = [], []
        return put_segment(self.repository, self.timeline, sealed)

    def draft(self) -> SegmentDraft:
        return SegmentDraft(
            timeline=self.timeline.id,
            first_seq=self.seq + 1,
            last_seq=self.seq + 1,
            page_size=self.page_size,
            before=self.chain,
            mark=Mark(salts=self.salts.hex() or "00" * 8, frame=self.frame, checksum=(0, 0)),
            source="1:2",
            commits=tuple(one.commit for one in self.pending),
            pgnos=array("I", [pgno for one in self.pending for pgno in sorted(one.pages)]),
            reasons=tuple(self.reasons),
        )

    def options(self) -> ChunkOptions:
        context = timeline_key_context(self.timeline.repository_id, self.timeline.id)
        return ChunkOptions(
            page_size=self.page_size,
            codec=Codec.ZSTD,
            level=1,
            cipher=self.timeline.cipher,
            data_key=self.repository.unwrap(self.timeline.wrapped_key, context=context),
            salt=secrets.token_bytes(32),
        )

    @property
    def number(self) -> int:
        return self.captured[-1].commit.number if self.captured else 0

    def state(self, number: int) -> Path:
        """Let SQLite make the state after a commit: a copy of the file and the -wal up to that commit, recovered."""
        one = self.captured[number - 1]
        path = self.scratch / f"state-{number}.db"
        shutil.copyfile(one.copy, path)
        path.with_name(f"{path.name}-wal").write_bytes(one.wal)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path

    def _begin(self) -> None:
        repository_id = self.repository.identity().repository_id
        at = datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(microseconds=self.now_us)
        timeline_id = TimelineId.make(at, chance=secrets.token_bytes(4))
        wrapped = None
        if self.key_id:
            context = timeline_key_context(repository_id, timeline_id)
            wrapped = self.repository.wrap(self.key_id, secrets.token_bytes(32), nonce=secrets.token_bytes(12), context=context)
        self.timeline = Timeline(
            id=timeline_id,
            database=self.database,
            host="h1",
            repository_id=repository_id,
            created_at=at,
            page_size=self.page_size,
            cipher=Cipher.AES_256_GCM if self.key_id else Cipher.NONE,
            wrapped_key=wrapped,
            previous=self.previous,
            reason="a test",
        )
        put_timeline(self.repository, self.timeline)

    def _commit(self, n_pages: int, n_stored: int, first: int, last: int, *, seconds: float) -> Commit:
        self.now_us += int(seconds * SECOND_US)
        return Commit(
            number=self.number + 1,
            n_pages=n_pages,
            n_stored=n_stored,
            first_frame=first,
            last_frame=last,
            observed_us=self.now_us,
            unseen_us=min(int(seconds * SECOND_US), 20_000),
        )

    def _add(self, one: Captured) -> None:
        self.captured.append(one)
        self.pending.append(one)

    def _copy(self) -> None:
        """Copy the database file; another process does, since closing a descriptor here would drop SQLite's locks."""
        self.copy = self.scratch / f"copy-{len(self.captured)}.db"
        subprocess.run(["/bin/cp", str(self.path), str(self.copy)], check=True)

    def _wal(self) -> bytes:
        return self.path.with_name(f"{self.path.name}-wal").read_bytes()


def stand(runtime: Runtime, backup: Backup, timeline: TimelineId, commit: int, *, settled: int | None = None) -> Backup:
    """Write into a backup's manifest where it stands on a timeline, as a backup made during capture has it."""
    from dataclasses import replace

    repository = runtime.repository(backup.storage)
    manifest = repository.read_manifest(backup.database, backup.id)
    position = Position(timeline=timeline, commit=commit, settled=commit if settled is None else settled)
    manifest = repository.replace_manifest(replace(manifest, backup=replace(manifest.backup, position=position)))
    runtime.catalog.add(manifest)
    return manifest.backup


def differing_pages(one: Path, other: Path, page_size: int) -> list[int]:
    """Return the pages that differ, apart from what of page 1 a copy by SQLite's backup has otherwise (facts in design)."""
    first, second = bytearray(one.read_bytes()), bytearray(other.read_bytes())
    assert len(first) == len(second)
    for data in (first, second):
        for start, end in ((18, 20), (24, 28), (40, 44), (92, 100)):
            data[start:end] = bytes(end - start)
    return [
        at // page_size + 1
        for at in range(0, len(first), page_size)
        if first[at : at + page_size] != second[at : at + page_size]
    ]
