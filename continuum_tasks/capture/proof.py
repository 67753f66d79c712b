"""Prove now and then that what was captured is what the database holds.

All pages of a state that is held under a pin, at a known commit, are read and digested; a command of its own compares them with
what the backups and the captured commits give for that commit (`capture.compare_live`). It finds what no rule foresees.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from threading import Event

from continuum_tasks.capture.pins.copier import Copier
from continuum_tasks.capture.reader import wal_files
from continuum_tasks.capture.reader.follower import CommitFollower
from continuum_tasks.capture.reader.wal_files import CaptureFiles
from continuum_tasks.capture.state.environment import EPOCH_MICROSECONDS, CaptureContext, write_file
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.errors import ContinuumError
from continuum_tasks.layer.format import ZERO_DIGEST, digests_of, lock_page, page_digest
from continuum_tasks.model import TimelineId
from continuum_tasks.repository.documents import from_json, to_json
from continuum_tasks.wal.format import IndexHeader

PROOF, DIGESTS = "proof.json", "proof.digests"
N_TRIES = 20
PAUSE_SECONDS = 60.0  # after commits came too fast to hold a known one
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """What the database held at a commit: the digests of its `n_pages` pages are in a file beside this note.

    `proven_commit` is the last commit that was proven before, 0 when none was.
    """

    timeline: TimelineId
    commit: int
    page_size: int
    n_pages: int
    proven_commit: int


class Proof:
    """The proof of one capture: `begin` when it is due, `step` until there is a state to compare."""

    def __init__(self, follower: CommitFollower, *, place: CaptureContext) -> None:
        self._follower = follower
        self._place = place
        self._copier: Copier | None = None
        self._running: Future[int] | None = None
        self._state: LiveState | None = None
        self._not_before = 0.0
        self._given_up = Event()

    @property
    def busy(self) -> bool:
        return self._running is not None

    @property
    def commit(self) -> int:
        """Return the commit whose state waits to be compared, 0 while none does."""
        return 0 if self._state is None or self.busy else self._state.commit

    def is_due(self) -> bool:
        """Tell whether a state is to be read now."""
        found, every = self._follower.standing, self._place.capture.proof_every_seconds
        if found is None or not every or self._state is not None or self._place.clock.monotonic() < self._not_before:
            return False
        return bool(found.proven_us) and self._place.now_us() - found.proven_us >= every * EPOCH_MICROSECONDS

    def begin(self, executor: Executor) -> None:
        """Hold a state at a known commit, and have it read by a thread. Raises Lost, SourceBusy, NoSpace."""
        found = self._follower.standing
        assert found is not None
        self._forget()  # of a process that was killed; a comparison may still read it
        self._copier = Copier(self._follower.source.path, self._follower.directory / DIGESTS)
        self._not_before = self._place.clock.monotonic() + PAUSE_SECONDS
        try:
            self._state = self._held(found, self._copier, executor)
        finally:
            if self._state is None:
                self.close()

    def _held(self, found: CaptureProgress, copier: Copier, executor: Executor) -> LiveState | None:
        source = self._follower.source
        for _ in range(N_TRIES):
            index = copier.hold(lambda: wal_files.read_wal_index(source, pause=self._place.pause))
            self._follower.look()
            if index is not None and self._follower.stands_at(index):
                size, into, self._given_up = found.timeline.page_size, self._follower.directory / DIGESTS, Event()
                self._running = executor.submit(read_digests, source, index, into, page_size=size, given_up=self._given_up)
                return LiveState(
                    timeline=found.timeline.id,
                    commit=self._follower.last_commit,
                    page_size=size,
                    n_pages=0,
                    proven_commit=found.proven_commit,
                )
        return None

    def step(self) -> None:
        """Note the state once it was read. Raises NoSpace, ConfigError, OSError."""
        if self._running is None or self._state is None or not self._running.done():
            return
        finished, self._running = self._running, None
        self._end_copier()
        try:
            note = replace(self._state, n_pages=finished.result())
            write_file(self._follower.directory / PROOF, json.dumps(to_json(note)).encode(), durable=False)
        except (ContinuumError, OSError):
            self.close()
            raise

    def close(self) -> None:
        """Give up what is being read, and forget what waits. On return no thread has the database open."""
        self._given_up.set()
        if self._running is not None and not self._running.cancel():
            wait([self._running])
        self._running = self._state = None
        self._end_copier()
        self._forget()

    def _forget(self) -> None:
        """Remove the note first: one that is there has all its digests, and nobody writes into a file that was named by one."""
        for name in (PROOF, DIGESTS):
            (self._follower.directory / name).unlink(missing_ok=True)

    def _end_copier(self) -> None:
        if self._copier is not None:
            self._copier.let_go()
        self._copier = None


def read_digests(source: CaptureFiles, index: IndexHeader, into: Path, *, page_size: int, given_up: Event) -> int:
    """Write the digest of every page of the state that is held at `index` into a file; returns how many there are.

    Pages that hold nothing, free ones and the lock page, get the digest that stands for none. Where all frames are copied back
    the log may be restarted under the pin, and the file is that state; else the log stays as it is. Once `given_up` is set it
    ends soon, and what it wrote is worth nothing.
    """
    if given_up.is_set():
        return 0
    with wal_files.opened(source.path) as database:
        n_pages = index.n_pages if index.max_frame else os.fstat(database).st_size // page_size
        logged = _LoggedPages(source, index)
        trunks = takewhile(lambda _: not given_up.is_set(), _trunks(database, logged, page_size=page_size, n_pages=n_pages))
        free = {lock_page(page_size)}.union(*trunks)
        with into.open("xb") as file:
            into.chmod(0o600)
            step = max(1, _READ_BYTES // page_size)
            for first in range(1, n_pages + 1, step):
                if given_up.is_set():
                    break
                n = min(step, n_pages + 1 - first)
                data = os.pread(database, n * page_size, (first - 1) * page_size).ljust(n * page_size, b"\0")
                found = bytearray(digests_of(data, page_size))
                for pgno in range(first, first + n):
                    page = logged.page(pgno)
                    digest = ZERO_DIGEST if pgno in free else page_digest(page) if page is not None else None
                    if digest is not None:
                        at = (pgno - first) * len(digest)
                        found[at : at + len(digest)] = digest
                file.write(found)
    return n_pages


def read_state(directory: Path) -> LiveState | None:
    """Return the state that waits to be compared in the capture directory of a database, None when none does."""
    try:
        found: LiveState = from_json(LiveState, json.loads((directory / PROOF).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return found


class _LoggedPages:
    """The newest pages of a log up to an index; none where all are in the database file."""

    def __init__(self, source: CaptureFiles, index: IndexHeader) -> None:
        self._source = source
        self._header = wal_files.read_header(source) if index.n_copied < index.max_frame else None
        frames = () if self._header is None else wal_files.pgnos(source, self._header, until=index.max_frame)
        self._frames = {pgno: frame for frame, pgno in enumerate(frames, 1)}

    def page(self, pgno: int) -> bytes | None:
        frame = self._frames.get(pgno)
        if frame is None or self._header is None:
            return None
        with wal_files.opened(self._source.wal) as log:
            return os.pread(log, self._header.page_size, wal_files.page_offset(self._header, frame))


def _trunks(database: int, logged: _LoggedPages, *, page_size: int, n_pages: int) -> Iterator[list[int]]:
    """Yield the leaves each trunk of the free list names: what is in them nobody reads, and SQLite need not write it."""

    def words(pgno: int) -> Iterator[int]:
        page = logged.page(pgno) or os.pread(database, page_size, (pgno - 1) * page_size)
        return (int.from_bytes(page[at : at + 4], "big") for at in range(0, len(page), 4))

    trunk, seen = list(words(1))[8], set[int]()
    while 0 < trunk <= n_pages and trunk not in seen:
        seen.add(trunk)
        following, n_leaves, *leaves = words(trunk)
        yield leaves[:n_leaves]
        trunk = following
