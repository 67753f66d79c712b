"""Look at the files of a database for what SQLite did not write, in a process without a connection to it.

What is read here decides nothing: `plan.continuity` does. Pages that a checkpoint has copied back must be in the database file
as the log had them: a file that was written without SQLite has others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from continuum_tasks.capture.plan.continuity import Sighting, bypassed
from continuum_tasks.capture.reader import wal_files
from continuum_tasks.capture.reader.wal_files import CaptureFiles
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.errors import SourceBusy
from continuum_tasks.layer.format import lock_page, page_digest
from continuum_tasks.model import Mark
from continuum_tasks.sqlite.holders import describe_holders, holders_of_deleted
from continuum_tasks.wal.format import IndexHeader
from continuum_tasks.wal.frames import Frames

N_KEPT = 64  # pages that are compared when a log is restarted
N_COMPARED = 1024  # ... and when capture begins behind a log that it knows
MAX_FRAMES = 1 << 16  # a log with more is not looked through for pages
N_RESTLESS = 15  # looks at files that were written without SQLite before capture begins although they change on


class Sightings:
    """What one capture saw of the files of its database, from one look to the next."""

    def __init__(self, source: CaptureFiles, *, pause: Callable[[], None]) -> None:
        self.last: Sighting | None = None
        self._source = source
        self._pause = pause
        self._newest: dict[int, bytes] = {}  # digests of the pages the last commits wrote, as the last one left each
        self._restless: tuple[int, str] = (0, "")

    def begin(self, standing: CaptureProgress | None) -> IndexHeader:
        """Look for the first time under a pin. Raises SourceBusy, also while somebody uses a log or index that was deleted."""
        self._newest = {}
        index, self.last = self._look()
        known = None if standing is None else standing.sighting
        if standing is not None and (standing.doubt or (known and (known.shm, known.wal) != (self.last.shm, self.last.wal))):
            self._check_nobody_uses_deleted()
        return index

    def moved(self) -> str:
        """Say, under a pin, that the log or its index is not the file it was, empty when it is."""
        if self.last is None:
            return ""
        wal, shm = wal_files.identity_of(self._source.wal), wal_files.identity_of(self._source.shm)
        return bypassed(self.last, replace(self.last, wal=wal, shm=shm, stamp=self.last.later_stamp), is_drawn=False)

    def look(self, mark: Mark) -> tuple[IndexHeader, str]:
        """Look again under a pin; returns the index, and what is there that SQLite did not do, empty when there is nothing.

        `mark` is how far the log was read. Raises SourceBusy when there is no sound index header to be read.
        """
        before = self.last
        index, now = self._look()
        header = wal_files.read_header(self._source) if index.max_frame else None
        if before is None:
            self.last = now
            return index, ""
        is_drawn = header is not None and header.salts == index.salts and not header.sequence
        problem = bypassed(before, now, is_drawn=is_drawn)
        if not problem and now.salts != before.salts:
            unlike = self._unlike_newest(index)
            problem = f"the log was restarted, and page {unlike} was not copied back from it" if unlike else ""
        elif not problem and header is not None and mark.frame and now.salts == mark.salts:
            said = wal_files.frame_checksum(self._source, header, mark.frame)
            problem = "" if said == mark.checksum else f"frame {mark.frame} of the log is not the one that was captured"
        if not problem:
            self.last = now
        return index, problem

    def read(self, frames: Frames) -> None:
        """Take note of whole transactions that follow those that are known."""
        n_frames, sizes = len(frames.pgnos), frames.sizes
        n_pages = int(sizes[sizes > 0].min())  # what is beyond it was cut off by one of them
        written = set(frames.pgnos.tolist())
        kept = {pgno: digest for pgno, digest in self._newest.items() if pgno <= n_pages and pgno not in written}
        last = {int(frames.pgnos[at]): at for at in range(max(0, n_frames - N_KEPT), n_frames)}
        kept |= {pgno: page_digest(frames.page(at)) for pgno, at in last.items() if pgno <= n_pages}
        self._newest = dict(list(kept.items())[-N_KEPT:])

    def check_at_rest(self, standing: CaptureProgress | None) -> None:
        """Raise SourceBusy while files that were changed without SQLite are still being changed, for some looks, or used."""
        if standing is None or not standing.doubt:
            self._restless = (0, "")
            return
        n_looks, before = self._restless
        names = (self._source.wal, self._source.shm)
        now = " ".join((self._source.stamp(), *map(wal_files.identity_of, names)))
        self._restless = (n_looks + 1, now)
        if now != before and n_looks < N_RESTLESS:
            raise SourceBusy(f"{self._source.path}: {standing.doubt}; it may still be written", hint="capture begins soon")
        self._check_nobody_uses_deleted()

    def unlike_copied(self, index: IndexHeader) -> int:
        """Return a page whose newest frame was copied back and that the database file has otherwise, 0 when there is none.

        Sound under a pin: no frame beyond `index` is copied back.
        """
        source, header = self._source, wal_files.read_header(self._source)
        if header is None or header.salts != index.salts or not index.n_copied or index.max_frame > MAX_FRAMES:
            return 0
        locked, size = lock_page(header.page_size), header.page_size
        newest = {pgno: frame for frame, pgno in enumerate(wal_files.pgnos(source, header, until=index.max_frame), 1)}
        copied = [pgno for pgno, at in newest.items() if at <= index.n_copied and pgno <= index.n_pages and pgno != locked]
        with wal_files.opened(source.path) as database, wal_files.opened(source.wal) as log:
            for pgno in copied[:N_COMPARED]:
                page = os.pread(log, size, wal_files.page_offset(header, newest[pgno]))
                if os.pread(database, size, (pgno - 1) * size) != page:
                    return pgno if wal_files.read_header(source) == header else 0
        return 0

    def _unlike_newest(self, index: IndexHeader) -> int:
        """Return a page that the database file has otherwise than the log that was wholly copied back, 0 without one.

        Sound under a pin: of the log that follows no page was copied back but those in the frames that were tried.
        """
        size, n_pages = index.page_size, index.n_pages if index.max_frame else max(self._newest, default=0)
        with wal_files.opened(self._source.path) as descriptor:
            wrong = [
                pgno
                for pgno, digest in self._newest.items()
                if size and pgno <= n_pages and page_digest(os.pread(descriptor, size, (pgno - 1) * size)) != digest
            ]
        if not wrong:
            return 0
        header = wal_files.read_header(self._source) if index.max_frame else None
        until = min(index.max_frame, index.n_attempted)
        since = set() if header is None else set(wal_files.pgnos(self._source, header, until=until))
        return next((pgno for pgno in wrong if pgno not in since), 0)

    def _check_nobody_uses_deleted(self) -> None:
        for path in (self._source.shm, self._source.wal):
            found = holders_of_deleted(path)
            if found:
                text = f"{path} was deleted, and {describe_holders(found)} still uses the deleted file: what it commits is lost"
                raise SourceBusy(text, hint="restart it; capture then begins by itself")

    def _look(self) -> tuple[IndexHeader, Sighting]:
        source, stamp = self._source, self._source.stamp()
        index = wal_files.read_wal_index(source, pause=self._pause)
        return index, Sighting(
            salts=index.salts.hex(),
            max_frame=index.max_frame,
            n_attempted=index.n_attempted,
            n_copied=index.n_copied,
            stamp=stamp,
            later_stamp=source.stamp(),
            wal=wal_files.identity_of(source.wal),
            shm=wal_files.identity_of(source.shm),
        )
