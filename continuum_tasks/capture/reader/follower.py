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

from continuum_tasks.capture.pins.base_copy import BaseCopy
from continuum_tasks.capture.pins.client import WAL, Pins
from continuum_tasks.capture.plan.continuity import MAX_BEHIND_SECONDS, Continuity, Judgement
from continuum_tasks.capture.plan.timers import LookTimes
from continuum_tasks.capture.reader import first_page, wal_files
from continuum_tasks.capture.reader.pending import Pending
from continuum_tasks.capture.reader.resumption import Resumption
from continuum_tasks.capture.reader.sealing import data_key, seal
from continuum_tasks.capture.reader.sighting import Sightings
from continuum_tasks.capture.shipping.spool import Spool
from continuum_tasks.capture.state import holes, restored
from continuum_tasks.capture.state.environment import CaptureContext, make_private_directory
from continuum_tasks.capture.state.progress import CaptureProgress, forget_progress, load, save
from continuum_tasks.errors import ContinuumError, SourceBusy
from continuum_tasks.model import Mark
from continuum_tasks.wal.format import FRAME_HEADER_BYTES, IndexHeader

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
        self.times = LookTimes()
        self.log_bytes = 0
        self.n_holes = 0
        self.sealed: dict[int, WaitingSegment] = {}
        self._helped_at_bytes = CHECKPOINT_BYTES
        self._seen_at: list[float] = []
        self._pins = pins
        self._place = place
        self._pending = Pending()
        self._mark = Mark(salts="", frame=0, checksum=(0, 0))
        self._sightings = Sightings(self.source, pause=place.pause)
        self._key: bytes | None = None
        self.base = BaseCopy(self.directory, place.temp_dir, random_bytes=place.random_bytes)
        self._resumption = Resumption(
            database=database,
            storage=storage,
            directory=self.directory,
            source=self.source,
            sightings=self._sightings,
            base=self.base,
            place=place,
        )

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
        self.times = replace(self.times, watched_until_us=watched_until_us)
        self._sightings.check_at_rest(self.standing)
        self.journal_mode = self._pins.hold(self.source.path)
        if self.journal_mode != WAL:
            return None
        try:
            judgement = self._begin()
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
        observed_us = max(self._place.now_us(), self.times.observed_us)
        unseen_us = self.times.unseen_us(self._place.clock.monotonic())
        if index.salts.hex() != self._mark.salts:  # what was in the old log is captured: a pin was held all the time
            self._mark = Mark(salts=index.salts.hex(), frame=0, checksum=(0, 0))
        if index.max_frame > self._mark.frame:
            self._read(index, observed_us, unseen_us)
        if observed_us - self._place.now_us() > MAX_BEHIND_SECONDS * 1_000_000:
            self.flush()  # these still belong here, with the last time there was
            raise Lost("the clock was set back")
        self.times = self.times.at(self._place.clock.monotonic(), observed_us)
        self._seen_at.extend([self.times.looked] * (self.last_commit - before))
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

    def note_watched(self) -> bool:
        """Take what was looked at for watched once nothing of it waits to be made durable; tell whether that is so."""
        if self.pending_bytes:
            return False
        self.times = self.times.watched()
        return True

    def rotate_last(self) -> None:
        """Rotate before everything is let go; until when it was watched does not go back. Raises what `rotate` does."""
        self.rotate()
        self.times = self.times.watched(at_least_us=self.times.watched_until_us)

    def flush(self) -> None:
        """Seal what is pending into the spool. Raises NoSpace, ConfigError: it stays pending."""
        if not self._pending or self.standing is None:
            return
        spool = Spool(self.directory, self.standing.timeline.id)
        spool.check_room(self.database, limit_bytes=self._place.capture.spool_limit_bytes)
        then, sealed = seal(self.standing, self._pending, self._mark, key=self._key, place=self._place)
        then = replace(then, sighting=self._sightings.last)
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

    def _begin(self) -> Judgement:
        index, stopped = self._sightings.begin(self.standing), self.standing
        found, judgement = self._resumption.judge(index, stopped)
        is_new = stopped is None or judgement.verdict is Continuity.NEW_TIMELINE
        at_least_us = 0 if stopped is None or is_new else stopped.observed_us
        self.times = self.times.at(self._place.clock.monotonic(), max(self._place.now_us(), at_least_us))
        since_us, observed_us = self.times.watched_until_us, self.times.observed_us
        if is_new:
            self.standing = self._resumption.new_timeline(stopped, found, reason=judgement.reason, watched_until_us=since_us)
        assert self.standing is not None
        known = None if stopped is None else stopped.sighting
        if judgement.verdict is Continuity.GO_ON and (known is None or found.stamp != known.later_stamp):
            self.change(proven_us=1)  # a checkpoint may have written it, or anybody: that is found out at once
        self._key = data_key(self.standing, place=self._place)
        self._mark = self.standing.mark
        if judgement.verdict is not Continuity.GO_ON:
            self._resume(observed_us if is_new else since_us, reason=judgement.reason)
            if stopped is not None and stopped.commit:
                self._note_hole(max(since_us, stopped.observed_us), reason=judgement.reason)
            restored.forget(self.directory)  # what began is durable by now
        elif index.max_frame > self._mark.frame:
            self._mark = replace(self._mark, salts=index.salts.hex())
            # With this very index: a pin in slot 0 lets the log be begun anew, and what is not read by then is a hole.
            self._read(index, observed_us, max(0, observed_us - max(since_us, self.standing.observed_us)))
        return judgement

    def _resume(self, watched_until_us: int, *, reason: str) -> None:
        """Begin with the state that is there now, under the pin; where that fails, all is as before, and nothing is copied."""
        assert self.standing is not None
        stood, is_done = self.standing, False
        try:
            self.standing = replace(stood, stamp=self.source.stamp())
            state = self._resumption.state(self.standing, watched_until_us=watched_until_us)
            self._pending.resume(state.commit, state.page, reason=reason)
            self._mark = state.mark
            self.times = self.times.at(self._place.clock.monotonic(), state.commit.observed_us)
            self.flush()
            is_done = True
        finally:
            if not is_done:  # with the new stamp the next try would take the file for the one it had followed
                self.standing = stood
                self.base.close()

    def _note_hole(self, from_us: int, *, reason: str) -> None:
        """Note the hole before the last commit for who asks this host; the segment says it for good."""
        assert self.standing is not None
        self.n_holes += 1
        with contextlib.suppress(ContinuumError):
            holes.note_hole(self.directory, holes.before(self.standing, from_us, reason=reason))

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
                self._pending.check_unreserved(self.source.path)
                last = frames.first + len(frames.pgnos) - 1
                said = (int(frames.checksums[-1][0]), int(frames.checksums[-1][1]))
                self._mark = Mark(salts=self._mark.salts, frame=last, checksum=said)
                if self._pending.n_bytes >= self._place.capture.segment_bytes:
                    self.flush()
        except (ValueError, FileNotFoundError) as err:
            raise self.distrust(f"the log is not as its index says: {err}") from err
        if self._mark.checksum != index.checksum:
            raise self.distrust(f"frame {index.max_frame} is not the one that SQLite committed")
