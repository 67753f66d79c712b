"""Follow one database: hold its log, read what is committed, make it durable on this host.

The rotating pin: at every instant at least one read transaction is held. To rotate, a new one is begun, everything then
visible is read and spooled, and only then the old one ends. A reader in a slot of its own keeps anyone from beginning the log
anew; a reader in slot 0 (all was copied back when it began) keeps anyone from copying frames back, so only a log that was
wholly captured can be begun anew. No gap is possible, whichever slot SQLite gives (docs/CAPTURE.md has the argument).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from continuum_tasks.capture.pins.base_copy import Base, BaseCopy
from continuum_tasks.capture.pins.client import WAL, Pins
from continuum_tasks.capture.plan.continuity import (
    MAX_BEHIND_SECONDS,
    Continuity,
    Found,
    Judgement,
    LastPosition,
    judge_continuity,
)
from continuum_tasks.capture.reader import first_page, wal_files
from continuum_tasks.capture.reader.pending import Pending
from continuum_tasks.capture.reader.sealing import Beginning, data_key, new_standing, seal
from continuum_tasks.capture.reader.sighting import Sightings
from continuum_tasks.capture.shipping import ended_timelines
from continuum_tasks.capture.shipping.spool import Spool
from continuum_tasks.capture.state import holes, restored
from continuum_tasks.capture.state.environment import CaptureContext, make_private_directory
from continuum_tasks.capture.state.progress import CaptureProgress, forget_progress, load, save
from continuum_tasks.errors import ContinuumError, NoSpace, SourceBusy, SourceRefused
from continuum_tasks.model import Commit, Mark
from continuum_tasks.sqlite import reserved
from continuum_tasks.wal.format import FRAME_HEADER_BYTES, Checksum, IndexHeader

CHECKPOINT_BYTES = 4 * 1024 * 1024  # as much as SQLite's own automatic checkpoint lets a log of 4 KiB pages grow to


N_TRIES = 8
N_SAMPLES = 16  # commits of a segment whose lag is followed


class Lost(Exception):
    """The log is not what it should be while it is held: capture lets go and looks anew."""


class Bypassed(Lost):
    """The files were changed without SQLite's locks: what was captured goes on nowhere, a new timeline begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingSegment:
    """A segment that waits to be shipped: its last commit and when that was seen; when some were, in monotonic seconds."""

    last_commit: int
    observed_us: int
    seen_at: tuple[float, ...]


class CommitFollower:
    """The capture of one database, from one thread. `begin` holds it, `look` reads, `rotate` makes durable, `let_go` ends."""

    def __init__(self, database: str, storage: str, path: Path, *, pins: Pins, place: CaptureContext) -> None:
        self.database = database
        self.storage = storage
        self.source = wal_files.CaptureFiles(path=path)
        self.directory = make_private_directory(place.directory / database)
        self.standing: CaptureProgress | None = load(self.directory)
        self.holds = False
        self.journal_mode = ""
        self.looked_us = 0
        self.log_bytes = 0
        self.n_holes = 0
        self.sealed: dict[int, WaitingSegment] = {}
        self._helped_at_bytes = CHECKPOINT_BYTES
        self._looked = 0.0
        self._seen_at: list[float] = []
        self._pins = pins
        self._place = place
        self._pending = Pending()
        self._mark = Mark(salts="", frame=0, checksum=(0, 0))
        self._sightings = Sightings(self.source, pause=place.pause)
        self._key: bytes | None = None
        self.base = BaseCopy(self.directory, place.temp_dir, random_bytes=place.random_bytes)

    @property
    def pending_bytes(self) -> int:
        return self._pending.n_bytes

    @property
    def last_commit(self) -> int:
        """Return the number of the last commit that was read, sealed or not."""
        if self._pending:
            return self._pending.commits[-1].number
        return 0 if self.standing is None else self.standing.commit

    def stands_at(self, index: IndexHeader) -> bool:
        """Tell whether `last_commit` is the state that an index header speaks of."""
        return (index.salts.hex(), index.max_frame) == (self._mark.salts, self._mark.frame)

    def spool(self) -> Spool | None:
        """Return the spool of the present timeline."""
        return None if self.standing is None else Spool(self.directory, self.standing.timeline.id)

    def begin(self, *, watched_until_us: int) -> Judgement | None:
        """Hold the database and find out what became of its log; None when it is not in WAL mode, and then nothing is held.

        `watched_until_us`: until when it is known to have been followed. Raises SourceError, StorageError, KeyringError,
        NoSpace, PinsLost; nothing is held then.
        """
        self.let_go()
        self._sightings.check_at_rest(self.standing)
        self.journal_mode = self._pins.hold(self.source.path)
        if self.journal_mode != WAL:
            return None
        try:
            judgement = self._begin(watched_until_us)
            self.holds = True
        finally:
            if not self.holds:
                self.let_go()
        return judgement

    def look(self) -> int:
        """Read what was committed since the last look; returns how many commits came. Raises Lost, SourceBusy."""
        if self.standing is not None and self.source.identity() != self.standing.source:
            raise Lost("the database file was replaced")
        index = self._look()
        self.log_bytes = index.max_frame * (FRAME_HEADER_BYTES + index.page_size)
        if self._pending.n_bytes >= self._place.capture.segment_bytes:
            self.flush()  # it could not be made durable before: nothing more is read into memory until it is
        before = self.last_commit
        observed_us, unseen_us = self._seen()
        if index.salts.hex() != self._mark.salts:  # what was in the old log is captured: a pin was held all the time
            self._mark = Mark(salts=index.salts.hex(), frame=0, checksum=(0, 0))
        if index.max_frame > self._mark.frame:
            self._read(index, observed_us, unseen_us)
        if self._behind_seconds(observed_us) > MAX_BEHIND_SECONDS:
            self.flush()  # these still belong here, with the last time there was
            raise Lost("the clock was set back")
        self._looked, self.looked_us = self._place.clock.monotonic(), observed_us
        self._seen_at.extend([self._looked] * (self.last_commit - before))
        return self.last_commit - before

    def rotate(self) -> None:
        """Pin the database anew, make everything that is then visible durable here, and let the older pin go.

        Raises Lost, SourceBusy, NoSpace, ConfigError, OSError (the older pin stays), PinsLost.
        """
        with self._pins.renewed(self.source.path):
            self.look()
            self.flush()
        if self.log_bytes >= self._helped_at_bytes:
            self._help()
            self.flush()

    def _help(self) -> None:
        """Help a log that has grown to be begun anew: have its frames copied back, and pin again right behind them.

        Automatic checkpoints copy back what the pin lets them, which is never all while commits come: without this the log of
        a service at work would grow until its writers rest. It takes a pause of some milliseconds between two commits. After
        a few tries in vain the log may grow by as much again first; once it is an alarm, writers are kept waiting that long.
        """
        for _ in range(N_TRIES):
            self.source.sync()  # what was copied back already: the checkpoint then has next to nothing to wait for
            if self._turn():
                self._helped_at_bytes = CHECKPOINT_BYTES
                return
        self._helped_at_bytes = self.log_bytes + CHECKPOINT_BYTES
        if self.log_bytes > self._place.capture.wal_alarm_bytes:
            with self._pins.still(self.source.path):
                self._turn()

    def _turn(self) -> bool:
        """Pin, read, copy back, and pin again; True when the next commit begins the log anew, or did.

        What is read here is in memory alone until the next flush: should this process die, it is read again or it is a hole.
        """
        with self._pins.renewed(self.source.path):
            self.look()
        before = self._mark
        whole = self._pins.advance(self.source.path)
        self.look()
        return whole and (self._mark == before or self._mark.salts != before.salts)

    def flush(self) -> None:
        """Seal what is pending into the spool. Raises NoSpace, ConfigError: it stays pending."""
        if not self._pending or self.standing is None:
            return
        self._check_room()
        then, sealed = seal(self.standing, self._pending, self._mark, key=self._key, place=self._place)
        then = replace(then, sighting=self._sightings.last)
        spool = Spool(self.directory, then.timeline.id)
        spool.put(then.seq, sealed.data)
        if self._pending.first_page is not None:  # before the standing: a page 1 that is older than that would be wrong
            first_page.write_first_page(self.directory, self._pending.first_page)
        save(self.directory, then)
        seen_at = tuple(self._seen_at[:: max(1, len(self._seen_at) // N_SAMPLES)])
        self.sealed[then.seq] = WaitingSegment(last_commit=then.commit, observed_us=then.observed_us, seen_at=seen_at)
        self.standing, self._pending, self._seen_at = then, Pending(), []

    def change(self, **fields: object) -> None:
        """Note something else about the standing, durably."""
        assert self.standing is not None
        self.standing = replace(self.standing, **fields)  # type: ignore[arg-type]
        save(self.directory, self.standing)

    def _look(self) -> IndexHeader:
        problem = self._sightings.moved()
        if not problem:
            index, problem = self._sightings.look(self._mark)
            if not problem:
                return index
        with contextlib.suppress(ContinuumError):
            self.flush()  # what was read before is what SQLite committed
        raise self.distrust(problem)

    def distrust(self, problem: str) -> Bypassed:
        """Note, for whoever begins next, that the files were changed without SQLite; returns what is to be raised."""
        if self.standing is not None:
            with contextlib.suppress(ContinuumError):
                self.change(doubt=problem)
            self.standing = replace(self.standing, doubt=problem)
        self.base.close()
        return Bypassed(problem)

    def forget(self) -> None:
        """Forget the timeline: the next `begin` starts another one."""
        forget_progress(self.directory)
        self.standing = None

    def let_go(self) -> None:
        """Hold nothing any more; what was read and not made durable is read again by the next `begin`, if it is still there."""
        self._pins.drop_all(self.source.path)
        self.holds, self._pending, self._seen_at = False, Pending(), []

    def _begin(self, watched_until_us: int) -> Judgement:
        index = self._sightings.begin(self.standing)
        found = self._found(index)
        judgement = judge_continuity(self._stood(), found)
        stopped, since_us = self.standing, watched_until_us
        known = None if stopped is None else stopped.sighting
        self._looked, self.looked_us = self._place.clock.monotonic(), self._place.now_us()
        if self.standing is not None and judgement.verdict is not Continuity.NEW_TIMELINE:
            self.looked_us = max(self.looked_us, self.standing.observed_us)
        if judgement.verdict is Continuity.NEW_TIMELINE or self.standing is None:
            previous = None if self.standing is None else self.standing.timeline.id
            if self.standing is not None:
                ended_timelines.note_ended(self.directory, self.standing)
            beginning = Beginning(
                database=self.database,
                storage=self.storage,
                found=found,
                reason=judgement.reason,
                previous=previous,
                followed_until_us=0 if previous is None else watched_until_us,
                is_known=stopped is not None and stopped.published and stopped.storage == self.storage,
            )
            self.standing = new_standing(beginning, place=self._place)
            watched_until_us = self.looked_us
        elif judgement.verdict is Continuity.GO_ON and (known is None or found.stamp != known.later_stamp):
            self.change(proven_us=1)  # a checkpoint may have written it, or anybody: that is found out at once
        self._key = data_key(self.standing, place=self._place)
        self._mark = self.standing.mark
        if judgement.verdict is not Continuity.GO_ON:
            self._resume(watched_until_us, reason=judgement.reason)
            if stopped is not None and stopped.commit:
                self._note(max(since_us, stopped.observed_us), reason=judgement.reason)
            restored.forget(self.directory)  # what began is durable by now
        elif index.max_frame > self._mark.frame:
            self._mark = replace(self._mark, salts=index.salts.hex())
            # With this very index: a pin in slot 0 lets the log be begun anew, and what is not read by then is a hole.
            self._read(index, self.looked_us, max(0, self.looked_us - max(watched_until_us, self.standing.observed_us)))
        return judgement

    def _stood(self) -> LastPosition | None:
        """Return where capture stopped; None where it never was, or went to another storage: that begins a timeline there."""
        if self.standing is None or self.standing.storage != self.storage:
            return None
        return self.standing.stood

    def _found(self, index: IndexHeader) -> Found:
        header = wal_files.read_header(self.source)
        said: Checksum | None = None
        if self.standing is not None and header is not None:
            said = wal_files.frame_checksum(self.source, header, self.standing.mark.frame)
        return Found(
            salts=index.salts.hex(),
            max_frame=index.max_frame,
            page_size=index.page_size or wal_files.read_page_size(self.source),
            source=self.source.identity(),
            stamp=self.source.stamp(),
            said=said,
            behind_seconds=self._behind_seconds(0 if self.standing is None else self.standing.observed_us),
            restored_online=restored.is_noted(self.directory),
            sighting=self._sightings.last,
            unlike=self._sightings.unlike_copied(index),
        )

    def _resume(self, watched_until_us: int, *, reason: str) -> None:
        """Begin with the state that is there now, under the pin; where that fails, all is as before, and nothing is copied."""
        stood, is_done = self.standing, False
        try:
            self._restart(watched_until_us, reason=reason)
            self.flush()
            is_done = True
        finally:
            if not is_done:  # with the new stamp the next try would take the file for the one it had followed
                self.standing = stood
                self.base.close()

    def _restart(self, watched_until_us: int, *, reason: str) -> None:
        """Take the state under the pin for the next commit: its page 1 and how long it is."""
        assert self.standing is not None
        page_size, self.standing = self.standing.timeline.page_size, replace(self.standing, stamp=self.source.stamp())
        held = self.base.hold(self.source.path, self._index)
        index, page = self._first_page(page_size, held)
        observed_us = max(self._place.now_us(), self.standing.observed_us, watched_until_us)
        since_us = observed_us if not self.standing.commit else max(watched_until_us, self.standing.observed_us)
        commit = Commit(
            number=self.standing.commit + 1,
            n_pages=index.n_pages if index.max_frame else self.source.path.stat().st_size // page_size,
            n_stored=1,
            first_frame=0,
            last_frame=0,
            observed_us=observed_us,
            unseen_us=observed_us - since_us,
            resumed=True,
        )
        self._pending.resume(commit, page, reason=reason)
        if index is not held:
            self.base.close()
        else:
            base = Base(
                timeline=self.standing.timeline.id,
                commit=commit.number,
                path=str(self.base.path),
                page_size=page_size,
                n_pages=commit.n_pages,
                observed_us=observed_us,
            )
            self.base.begin(base, page)
        checksum = index.checksum if index.max_frame else (0, 0)
        self._mark = Mark(salts=index.salts.hex(), frame=index.max_frame, checksum=checksum)
        self.looked_us, self._looked = observed_us, self._place.clock.monotonic()

    def _note(self, from_us: int, *, reason: str) -> None:
        """Note the hole before the last commit for who asks this host; the segment says it for good."""
        assert self.standing is not None
        self.n_holes += 1
        with contextlib.suppress(ContinuumError):
            holes.note_hole(self.directory, holes.before(self.standing, from_us, reason=reason))

    def _index(self) -> IndexHeader:
        return wal_files.read_wal_index(self.source, pause=self._place.pause)

    def _first_page(self, page_size: int, held: IndexHeader | None) -> tuple[IndexHeader, bytes]:
        """Return the state to begin with, the one that is held for a copy if there is, and its page 1."""
        for _ in range(wal_files.N_LOOKS):
            index = held or self._index()
            header = wal_files.read_header(self.source) if index.max_frame else None
            try:
                page = wal_files.first_page(self.source, header, until=index.max_frame, page_size=page_size)
            except (ValueError, FileNotFoundError):
                self._place.pause()
                continue
            if self._index().salts == index.salts:  # the log was not begun anew while we read it
                return index, page
            held = None
        raise SourceBusy(f"{self.source.path}: page 1 cannot be read", hint="capture tries again by itself")

    def _read(self, index: IndexHeader, observed_us: int, unseen_us: int) -> None:
        header = wal_files.read_header(self.source)
        if header is None or header.salts != index.salts:
            raise SourceBusy(f"{self.source.wal}: its header is not the one of the index", hint="capture tries again by itself")
        before = self._mark.checksum if self._mark.frame else header.checksum
        stretch = wal_files.Stretch(after=self._mark.frame, before=before, until=index.max_frame)
        pieces = wal_files.read_committed(self.source, header, stretch, limit_bytes=self._place.capture.segment_bytes)
        try:
            for frames in pieces:
                self._sightings.read(frames)
                self._pending.add(frames, number=self.last_commit + 1, observed_us=observed_us, unseen_us=unseen_us)
                self._check_unreserved()
                last = frames.first + len(frames.pgnos) - 1
                said = (int(frames.checksums[-1][0]), int(frames.checksums[-1][1]))
                self._mark = Mark(salts=self._mark.salts, frame=last, checksum=said)
                if self._pending.n_bytes >= self._place.capture.segment_bytes:
                    self.flush()
        except (ValueError, FileNotFoundError) as err:
            raise self.distrust(f"the log is not as its index says: {err}") from err
        if self._mark.checksum != index.checksum:
            raise self.distrust(f"frame {index.max_frame} is not the one that SQLite committed")

    def _check_unreserved(self) -> None:
        first = self._pending.first_page
        n_bytes = reserved.in_page(first.page) if first is not None else 0
        if n_bytes:  # since this commit: the frames from here on are not what the database file will have
            raise SourceRefused(
                reserved.explained(self.source.path, n_bytes), hint="switch its capture off and have it backed up often instead"
            )

    def _behind_seconds(self, time_us: int) -> float:
        return (time_us - self._place.now_us()) / 1_000_000

    def _seen(self) -> tuple[int, int]:
        """Return when this look is (microseconds, never before the last one) and how long before it nobody looked."""
        monotonic = self._place.clock.monotonic()
        unseen_us = max(0, round((monotonic - self._looked) * 1_000_000))
        return max(self._place.now_us(), self.looked_us), unseen_us

    def _check_room(self) -> None:
        spool = self.spool()
        waiting = 0 if spool is None else sum(one.size_bytes for one in spool.waiting())
        if waiting > self._place.capture.spool_limit_bytes:
            raise NoSpace(
                f"database {self.database}: {waiting} bytes wait to be shipped, more than spool_limit_bytes",
                hint="is the storage reachable? `continuum backup test-storage`",
            )
