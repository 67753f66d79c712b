"""Keep the capture of one database going: when to look, when to rotate, when to let go and try again."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from continuum_tasks.capture.follow_ups import FollowUps
from continuum_tasks.capture.pins.client import Pins, PinsLost
from continuum_tasks.capture.proof import Proof
from continuum_tasks.capture.reader.follower import Bypassed, CommitFollower, Lost
from continuum_tasks.capture.reader.wal_files import TransactionTooLarge
from continuum_tasks.capture.shipping.shipper import SegmentShipper
from continuum_tasks.capture.state import fence, requests
from continuum_tasks.capture.state.environment import CaptureContext
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_status, write_status
from continuum_tasks.capture.subcommand import Subcommand
from continuum_tasks.errors import ContinuumError, Fenced, NoSpace, SourceRefused, StorageError
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.mount_tables import refuse_place

_log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
REFUSED_SECONDS = 5.0  # until a file that cannot be captured is looked at again: somebody has to do something first
SAY_SECONDS = 0.5  # between two statuses while nothing but figures changes
IDLE_SAY_SECONDS = 5.0  # ... and while nothing changes at all
SETTLE_SECONDS = 1.0  # after files were changed without SQLite: who copied one may be copying the next
LIMIT_PAUSE_SECONDS = 10.0  # after letting go of a log that was too large: time for it to be begun anew
SAFETY_LOOK_SECONDS = 10.0  # without an event: the kernel may drop some when too many come at once
JOURNAL_PAUSE_SECONDS = 15.0  # between two backups of a rollback-journal database that changes all the time


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCapture:
    """A database to be captured: its name, its storage, its file, and the types of file systems accepted for it."""

    database: str
    storage: str
    path: Path
    accepted: tuple[str, ...] = ()


class CaptureSupervisor:
    """One database and all that its capture needs; `step` does what is due and never waits."""

    def __init__(self, wanted: WantedCapture, *, pins: Pins, place: CaptureContext, errand: Subcommand) -> None:
        self.wanted = wanted
        self._follower = CommitFollower(wanted.database, wanted.storage, wanted.path, pins=pins, place=place)
        self._courier = SegmentShipper(self._follower, place=place)
        self._needs = FollowUps(wanted.database, wanted.storage, errand)
        self._proof = Proof(self._follower, place=place)
        self._pins = pins
        self._place = place
        self._dirty = self._uncaptured = True
        self._refused = ""
        self._retry_at = self._rotated_at = self._looked_at = self._said_at = self._placed_at = 0.0
        self._again_at = math.inf
        self._settled_ns = 0
        self._storage_pause = RETRY_SECONDS
        self._said: CaptureStatus | None = None
        self._trouble = self._unsaid = ""
        known = read_status(place.directory.parent, wanted.database)
        self._watched_until_us = 0 if known is None else known.watched_until_us
        self._state, self._detail = CaptureState.WAITING, "begins"
        if fence.is_up(self._follower.directory):
            self._state, self._detail = CaptureState.FENCED, fence.fence_reason(self._follower.directory)

    def touched(self, changed: frozenset[Path]) -> None:
        """Take note of files that changed."""
        path = self.wanted.path
        names = {path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal"))}
        asked = {f"{self.wanted.database}.look", f"{self.wanted.database}.release"}
        if any(one in names or one.name in asked for one in changed):
            self._dirty = True
            # An event tells of frames; where fsync is slow their commit, of which none tells, comes after this look.
            self._again_at = self._place.clock.monotonic() + self._place.capture.interval_seconds
        if self._state is CaptureState.JOURNAL and any(one.name == f"{self.wanted.database}.look" for one in changed):
            self._retry_at = 0.0  # somebody says that it is in WAL mode now

    def step(self, executor: Executor) -> None:
        """Do what is due. Raises PinsLost when the process that holds the pins is gone."""
        now = self._place.clock.monotonic()
        if self._state is CaptureState.FENCED and not fence.is_up(self._follower.directory):
            self._wait("begins anew", 0.0)
        if self._state is not CaptureState.FENCED:
            try:
                self._hold(now)
                self._ship(executor)
                self._ask()
                self._prove(executor)
            except (ContinuumError, OSError) as err:  # a full disk, say: what is held stays held, and it is tried again
                self._trouble = str(err)
        self._say(now)

    def seconds_until_due(self) -> float:
        """Return how long nothing is due unless a file changes."""
        now = self._place.clock.monotonic()
        if self._state is CaptureState.FENCED:
            return SAFETY_LOOK_SECONDS
        waits = [min(self._looked_at + SAFETY_LOOK_SECONDS, self._again_at) - now]
        if self._follower.holds and (self._uncaptured or self._dirty):
            waits.append(self._rotated_at + self._place.capture.interval_seconds - now)
        if not self._refused and not self._follower.holds and (self._dirty or self._state is not CaptureState.JOURNAL):
            waits.append(self._retry_at - now)
        shipping = self._courier.seconds_until_due()
        if shipping is not None:
            waits.append(shipping)
        if self._needs.busy:
            waits.append(0.5)
        if self._follower.base.busy or self._proof.busy:
            waits.append(0.1)
        return max(0.0, min(waits))

    def refuse(self, why: str) -> None:
        """Hold nothing and begin nothing for this reason; an empty one, and it is captured."""
        if why != self._refused and self._state is not CaptureState.FENCED:
            self._lapse(why or "begins", 0.0)
        self._refused = why

    def lost_pins(self) -> None:
        """Take note that the process that held the pins died."""
        self._lapse("the process that held the log ended", 0.1)

    def close(self, *, detail: str) -> None:
        """End the capture: what can be read is made durable and, if that works at once, shipped; then let the database go."""
        self._courier.cancel()
        if self._follower.holds:
            try:
                self._follower.rotate()
                self._watched_until_us = max(self._watched_until_us, self._follower.looked_us)
                if not self._courier.busy:
                    self._courier.ship()
            except (ContinuumError, OSError, Lost, PinsLost, TransactionTooLarge) as err:
                detail = f"{detail}; {err}"
        self._needs.close()
        if self._follower.base.busy:
            self._follower.base.close()
        self._let_go()
        self._state, self._detail = CaptureState.STOPPED, detail
        self._write()

    def ship_tail(self) -> None:
        """Ship what waits after `close`, unless its storage has a problem."""
        if self._courier.trouble or self._state is CaptureState.FENCED:
            return
        try:
            self._courier.ship()
        except (ContinuumError, OSError) as err:
            _log.warning("database %s: the end is not shipped yet: %s", self.wanted.database, err)
        self._write()

    def _hold(self, now: float) -> None:
        if requests.is_asked_to_let_go(self._place.directory / requests.REQUESTS, self.wanted.database):
            self._release()
        elif self._refused:
            self._wait(self._refused, 0.0)
        elif self._is_beginning_due(now):
            self._begin(now)
        look_at = min(self._looked_at + SAFETY_LOOK_SECONDS, self._again_at)
        if now >= self._again_at:
            self._again_at = math.inf
        if self._follower.holds and (self._dirty or self._is_rotation_due(now) or now >= look_at):
            self._follow(now)

    def _begin(self, now: float) -> None:
        self._dirty = True
        try:
            inspect(self.wanted.path, accepted=self.wanted.accepted, tables=self._place.mount_tables())
            judgement = self._follower.begin(watched_until_us=self._watched_until_us)
        except TransactionTooLarge as err:
            self._give_up_log(str(err))
            return
        except StorageError as err:  # a timeline begins in its storage
            self._storage_pause = min(2 * self._storage_pause, LONGEST_RETRY_SECONDS)
            self._wait(str(err), self._storage_pause)
            return
        except SourceRefused as err:
            self._wait(f"{err.message}; {err.hint}", REFUSED_SECONDS)
            return
        except (ContinuumError, Lost, OSError) as err:
            self._wait(str(err), RETRY_SECONDS)
            return
        self._storage_pause = RETRY_SECONDS
        if judgement is None:
            self._state, self._detail = (
                CaptureState.JOURNAL,
                f"journal mode {self._follower.journal_mode}: backed up when it changes",
            )
            self._retry_at, self._dirty = now + JOURNAL_PAUSE_SECONDS, False
            self._needs.backup()
            return
        self._state, self._detail = CaptureState.RUNNING, judgement.reason
        self._rotated_at = self._looked_at = now
        self._uncaptured = True

    def _follow(self, now: float) -> None:
        settled_ns, self._looked_at, self._dirty = time.monotonic_ns(), now, False
        if not self._is_well_placed(now):
            return
        try:
            came = self._follower.look()
            self._uncaptured = self._uncaptured or bool(came)
            if self._is_rotation_due(now):
                settled_ns, self._rotated_at = time.monotonic_ns(), now  # one that fails is tried again an interval later
                self._follower.rotate()
                self._uncaptured = False
            if not self._follower.pending_bytes:  # what waits to be made durable is in no commit that others know of yet
                self._settled_ns, self._watched_until_us = settled_ns, self._follower.looked_us
            self._trouble = ""
        except Bypassed as err:
            self._lapse(str(err), SETTLE_SECONDS)
        except Lost as err:
            self._lapse(str(err), 0.0)
        except TransactionTooLarge as err:
            self._give_up_log(str(err))
        except SourceRefused as err:
            self._lapse(str(err), LONGEST_RETRY_SECONDS)
        except (ContinuumError, OSError) as err:  # NoSpace, SourceBusy: what is held stays held
            self._trouble = f"spool: {err}" if isinstance(err, NoSpace) else str(err)
        if self._follower.log_bytes > self._place.capture.wal_limit_bytes:
            self._follower.base.close()
            text = f"the log has {self._follower.log_bytes} bytes, more than wal_limit_bytes: released"
            self._lapse(text, LIMIT_PAUSE_SECONDS)

    def _is_well_placed(self, now: float) -> bool:
        """Look now and then whether it was mounted while it was captured: commits may come by a name that has another log."""
        if now < self._placed_at + SAFETY_LOOK_SECONDS:
            return True
        self._placed_at = now
        try:
            refuse_place(self.wanted.path, self._place.mount_tables(), accepted=self.wanted.accepted)
        except SourceRefused as err:
            self._give_up_log(f"{err.message}; {err.hint}", RETRY_SECONDS)
            return False
        return True

    def _is_beginning_due(self, now: float) -> bool:
        wanted = self._dirty or self._state is not CaptureState.JOURNAL
        return wanted and not self._follower.holds and now >= self._retry_at

    def _is_rotation_due(self, now: float) -> bool:
        return self._uncaptured and now - self._rotated_at >= self._place.capture.interval_seconds

    def _give_up_log(self, why: str, pause_seconds: float = 0.0) -> None:
        """Read on behind what the log holds now: what is between is a hole, and a backup follows."""
        if self._follower.standing is not None:
            mark = self._follower.standing.mark
            self._follower.change(mark=replace(mark, salts="f" * 16))
        self._lapse(why, pause_seconds)

    def _release(self) -> None:
        if self._follower.holds:
            try:
                self._follower.rotate()
                self._watched_until_us = max(self._watched_until_us, self._follower.looked_us)
            except (ContinuumError, OSError, Lost, TransactionTooLarge) as err:
                self._detail = str(err)
        self._follower.base.close()
        self._let_go()
        self._state, self._detail = CaptureState.RELEASED, "released for a restore"
        self._retry_at = self._place.clock.monotonic() + 0.2

    def _ship(self, executor: Executor) -> None:
        try:
            self._courier.step(executor)
        except Fenced as err:
            # What was captured here and not shipped stays in the spool; the next capture begins a new timeline.
            self._let_go()
            fence.put_up(self._follower.directory, err.message)
            self._follower.forget()
            self._state, self._detail = CaptureState.FENCED, err.message

    def _ask(self) -> None:
        found = self._follower.standing
        if found is not None and found.base_after and self._follower.holds:
            problem = self._follower.base.step()
            if problem is not None:
                _log.warning("database %s: no exact copy to begin with: %s", self.wanted.database, problem)
            if not self._follower.base.busy and self._needs.base(found):
                self._follower.change(base_after=0)
                self._follower.base.close()
        elif self._state is CaptureState.RUNNING and not self._proof.commit:
            self._needs.compaction(self._courier.shipped.n_segments)

    def _prove(self, executor: Executor) -> None:
        """Have a state read when that is due, and compared; where it is another than was captured, a new timeline begins."""
        found = self._follower.standing
        if found is None or found.base_after or not self._follower.holds:
            return
        self._proof.step()
        commit = self._proof.commit
        try:
            if not commit and not self._proof.busy and not self._needs.busy and self._proof.is_due():
                self._proof.begin(executor)
            elif commit and self._courier.durable_commit >= commit:
                same = self._needs.proof()
                if same:
                    self._follower.change(proven_us=self._place.now_us(), proven_commit=commit)
                elif same is False:
                    raise self._follower.distrust(f"the database differs from what was captured up to commit {commit}")
                if same is not None:
                    self._proof.close()
        except Lost as err:
            self._lapse(str(err), SETTLE_SECONDS)

    def _lapse(self, why: str, pause_seconds: float) -> None:
        self._let_go()
        self._wait(why, pause_seconds)

    def _wait(self, why: str, pause_seconds: float) -> None:
        self._state, self._detail = CaptureState.WAITING, why
        self._retry_at = self._place.clock.monotonic() + pause_seconds

    def _let_go(self) -> None:
        self._trouble = ""
        self._proof.close()
        try:
            self._follower.let_go()
        except PinsLost:
            self._follower.holds = False

    def _say(self, now: float) -> None:
        same = self._said is not None and self._said.state is self._state
        if same and now < self._said_at + (SAY_SECONDS if self._has_news() else IDLE_SAY_SECONDS):
            return
        self._said_at = now
        self._write()

    def _write(self) -> None:
        """Write the status if it is another one; where that fails, on a full disk, the last one grows old, and that shows."""
        try:
            status = self._status()
            if self._said is None or status != replace(self._said, updated_us=status.updated_us):
                write_status(self._follower.directory, status)
                self._said = status
        except (ContinuumError, OSError) as err:
            if str(err) != self._unsaid:
                _log.warning("database %s: its status cannot be written: %s", self.wanted.database, err)
            self._unsaid = str(err)

    def _has_news(self) -> bool:
        """Tell whether something may have changed since the last status, without asking the disk."""
        said, found = self._said, self._follower.standing
        if said is None or found is None or self._uncaptured or self._courier.seconds_until_due() is not None:
            return True
        looked = (found.commit, found.base_after, self._settled_ns, self._courier.durable_commit)
        return looked != (said.commit, said.base_after, said.settled_monotonic_ns, said.durable_commit)

    def _status(self) -> CaptureStatus:
        found, shipped = self._follower.standing, self._courier.shipped
        spool = self._follower.spool()
        waiting = [] if spool is None else spool.waiting()
        wal_bytes = self._follower.source.wal_bytes()
        trouble = (self._trouble, self._courier.trouble, self._needs.trouble)
        return CaptureStatus(
            database=self.wanted.database,
            state=self._state,
            detail=self._detail,
            trouble="; ".join(part for part in trouble if part),
            worker=self._place.worker,
            storage=self.wanted.storage,
            timeline="" if found is None else found.timeline.id,
            commit=0 if found is None else found.commit,
            observed_us=0 if found is None else found.observed_us,
            durable_commit=self._courier.durable_commit,
            watched_until_us=self._watched_until_us,
            settled_monotonic_ns=self._settled_ns,
            lag_seconds=shipped.lag(1.0),
            lag_p50_seconds=shipped.lag(0.5),
            lag_p95_seconds=shipped.lag(0.95),
            wal_bytes=wal_bytes,
            wal_alarm=wal_bytes > self._place.capture.wal_alarm_bytes,
            spool_bytes=sum(one.size_bytes for one in waiting),
            spool_segments=len(waiting),
            n_pins=self._pins.count(self.wanted.path),
            n_holes=self._follower.n_holes,
            base_after=0 if found is None else found.base_after,
            shipped_bytes=shipped.n_bytes,
            n_requests=shipped.n_requests,
            source="" if found is None else found.source,
            updated_us=self._place.now_us(),
            durable_us=self._courier.durable_us,
        )
