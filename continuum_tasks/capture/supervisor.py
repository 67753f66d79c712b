"""Keep the capture of one database going. What an event leads to is in `plan.transitions`, when to act in `plan.timers`."""

from __future__ import annotations

import contextlib
import logging
import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from continuum_tasks.capture.follow_ups import FollowUps, JobRunner
from continuum_tasks.capture.pins.client import Pins, PinsLost
from continuum_tasks.capture.plan.timers import SAFETY_LOOK_SECONDS, CaptureTimers, LookTimes
from continuum_tasks.capture.plan.transitions import CaptureEvent, CapturePhase, transition
from continuum_tasks.capture.proof import Proof
from continuum_tasks.capture.reader.follower import Bypassed, CommitFollower, Lost
from continuum_tasks.capture.reader.wal_files import TransactionTooLarge
from continuum_tasks.capture.shipping.shipper import SegmentShipper
from continuum_tasks.capture.state import fence, requests
from continuum_tasks.capture.state.environment import CaptureContext
from continuum_tasks.capture.state.status import CaptureState, read_status
from continuum_tasks.capture.status_writer import StatusWriter
from continuum_tasks.errors import ContinuumError, Fenced, NoSpace, SourceRefused, StorageError
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.mount_tables import refuse_place

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCapture:
    """A database to be captured: its name, its storage, its file, and the types of file systems accepted for it."""

    database: str
    storage: str
    path: Path
    accepted: tuple[str, ...] = ()


class CaptureSupervisor:
    """One database and all that its capture needs; `step` does what is due and never waits."""

    def __init__(self, wanted: WantedCapture, *, pins: Pins, place: CaptureContext, runner: JobRunner) -> None:
        self.wanted = wanted
        self._follower = CommitFollower(wanted.database, wanted.storage, wanted.path, pins=pins, place=place)
        self._courier = SegmentShipper(self._follower, place=place)
        self._needs = FollowUps(wanted.database, wanted.storage, runner, monotonic=place.clock.monotonic)
        self._proof = Proof(self._follower, place=place)
        self._place = place
        self._writer = StatusWriter(follower=self._follower, shipper=self._courier, pins=pins, place=place)
        self._timers = CaptureTimers(interval_seconds=place.capture.interval_seconds)
        self._phase = CapturePhase()
        if fence.is_up(self._follower.directory):
            self._phase = CapturePhase(state=CaptureState.FENCED, detail=fence.fence_reason(self._follower.directory))
        known = read_status(place.directory.parent, wanted.database)
        self._follower.times = LookTimes(watched_until_us=0 if known is None else known.watched_until_us)

    def touched(self, changed: frozenset[Path]) -> None:
        """Take note of files that changed."""
        path = self.wanted.path
        names = {path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal"))}
        asked = {f"{self.wanted.database}.look", f"{self.wanted.database}.release"}
        if any(one in names or one.name in asked for one in changed):
            self._phase = replace(self._phase, is_touched=True)
            self._timers = self._timers.touched(self._now())
        if any(one.name == f"{self.wanted.database}.look" for one in changed):
            self._after(CaptureEvent.LOOK_REQUESTED)

    def step(self, executor: Executor) -> None:
        """Do what is due. Raises PinsLost when the process that holds the pins is gone."""
        now = self._now()
        if self._phase.state is CaptureState.FENCED and not fence.is_up(self._follower.directory):
            self._after(CaptureEvent.FENCE_REMOVED)
        if self._phase.state is not CaptureState.FENCED:
            try:
                self._hold(now)
                self._ship(executor)
                self._ask()
                self._prove(executor)
            except (ContinuumError, OSError) as err:  # a full disk, say: what is held stays held, and it is tried again
                self._phase = replace(self._phase, trouble=str(err))
        self._say(now)

    def seconds_until_due(self) -> float:
        """Return how long nothing is due unless a file changes."""
        now, phase, timers = self._now(), self._phase, self._timers
        if phase.state is CaptureState.FENCED:
            return SAFETY_LOOK_SECONDS
        # Without the log there is nothing to look at: a look that is due for ever would keep this loop busy.
        waits = [timers.look_at - now if self._follower.holds else SAFETY_LOOK_SECONDS]
        if self._follower.holds and (phase.has_unspooled or phase.is_touched):
            waits.append(timers.rotate_at - now)
        if not phase.refused and self._is_beginning_wanted():
            waits.append(timers.begin_at - now)
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
        if why != self._phase.refused:
            self._after(CaptureEvent.REFUSED if why else CaptureEvent.ADMITTED, why)
        self._phase = replace(self._phase, refused=why)

    def lost_pins(self) -> None:
        """Take note that the process that held the pins died."""
        self._after(CaptureEvent.PINS_LOST)

    def close(self, *, detail: str) -> None:
        """End the capture: what can be read is made durable and, if that works at once, shipped; then let the database go."""
        self._courier.cancel()
        if self._follower.holds:
            try:
                self._follower.rotate_last()
                if not self._courier.busy:
                    self._courier.ship()
            except (ContinuumError, OSError, Lost, PinsLost, TransactionTooLarge) as err:
                detail = f"{detail}; {err}"
        self._needs.close()
        if self._follower.base.busy:
            self._follower.base.close()
        self._after(CaptureEvent.STOPPED, detail)
        self._write()

    def ship_tail(self) -> None:
        """Ship what waits after `close`, unless its storage has a problem."""
        if self._courier.trouble or self._phase.state is CaptureState.FENCED:
            return
        try:
            self._courier.ship()
        except (ContinuumError, OSError) as err:
            _log.warning("database %s: the end is not shipped yet: %s", self.wanted.database, err)
        self._write()

    def _hold(self, now: float) -> None:
        if requests.is_asked_to_let_go(self._place.directory / requests.REQUESTS, self.wanted.database):
            self._after(CaptureEvent.RELEASE_REQUESTED)
        elif self._phase.refused:
            self._after(CaptureEvent.STILL_REFUSED, self._phase.refused)
        elif self._is_beginning_wanted() and self._timers.is_begin_due(now):
            self._begin(now)
        is_look_due = self._phase.is_touched or self._is_rotation_due(now) or self._timers.is_look_due(now)
        self._timers = self._timers.looked_again(now)
        if self._follower.holds and is_look_due:
            self._follow(now)

    def _begin(self, now: float) -> None:
        self._phase = replace(self._phase, is_touched=True)
        try:
            inspect(self.wanted.path, accepted=self.wanted.accepted, tables=self._place.mount_tables())
            judgement = self._follower.begin(watched_until_us=self._follower.times.watched_until_us)
        except TransactionTooLarge as err:
            self._after(CaptureEvent.TRANSACTION_TOO_LARGE, str(err))
            return
        except StorageError as err:  # a timeline begins in its storage
            self._after(CaptureEvent.STORAGE_FAILED, str(err))
            return
        except SourceRefused as err:
            self._after(CaptureEvent.SOURCE_REFUSED, f"{err.message}; {err.hint}")
            return
        except (ContinuumError, Lost, OSError) as err:
            self._after(CaptureEvent.BEGIN_FAILED, str(err))
            return
        self._timers = self._timers.storage_answered()
        if judgement is None:
            self._after(CaptureEvent.JOURNAL_FOUND, self._follower.journal_mode)
            self._phase = replace(self._phase, is_touched=False)
            self._needs.backup()
            return
        self._after(CaptureEvent.FOLLOWED, judgement.reason)
        self._timers = self._timers.begun(now)
        self._phase = replace(self._phase, has_unspooled=True)

    def _follow(self, now: float) -> None:
        settled_ns = time.monotonic_ns()
        self._timers, self._phase = replace(self._timers, looked_at=now), replace(self._phase, is_touched=False)
        if not self._is_well_placed(now):
            return
        try:
            self._look(now, settled_ns)
        except Bypassed as err:
            self._after(CaptureEvent.BYPASSED, str(err))
        except Lost as err:
            self._after(CaptureEvent.LOG_LOST, str(err))
        except TransactionTooLarge as err:
            self._after(CaptureEvent.TRANSACTION_TOO_LARGE, str(err))
        except SourceRefused as err:
            self._after(CaptureEvent.SOURCE_CHANGED, str(err))
        except (ContinuumError, OSError) as err:  # NoSpace, SourceBusy: what is held stays held
            self._phase = replace(self._phase, trouble=f"spool: {err}" if isinstance(err, NoSpace) else str(err))
        if self._follower.log_bytes > self._place.capture.wal_limit_bytes:
            self._after(CaptureEvent.LOG_OVER_LIMIT, str(self._follower.log_bytes))

    def _look(self, now: float, settled_ns: int) -> None:
        if self._follower.look():
            self._phase = replace(self._phase, has_unspooled=True)
        if self._is_rotation_due(now):
            settled_ns = time.monotonic_ns()
            self._timers = replace(self._timers, rotated_at=now)  # one that fails is tried again an interval later
            self._follower.rotate()
            self._phase = replace(self._phase, has_unspooled=False)
        if self._follower.note_watched():  # what waits to be made durable is in no commit that others know of yet
            self._phase = replace(self._phase, settled_ns=settled_ns)
        self._phase = replace(self._phase, trouble="")

    def _is_well_placed(self, now: float) -> bool:
        """Look now and then whether it was mounted while it was captured: commits may come by a name that has another log."""
        if not self._timers.is_place_due(now):
            return True
        self._timers = replace(self._timers, placed_at=now)
        try:
            refuse_place(self.wanted.path, self._place.mount_tables(), accepted=self.wanted.accepted)
        except SourceRefused as err:
            self._after(CaptureEvent.MOVED, f"{err.message}; {err.hint}")
            return False
        return True

    def _is_beginning_wanted(self) -> bool:
        is_wanted = self._phase.is_touched or self._phase.state is not CaptureState.JOURNAL
        return is_wanted and not self._follower.holds

    def _is_rotation_due(self, now: float) -> bool:
        return self._phase.has_unspooled and self._timers.is_rotation_due(now)

    def _ship(self, executor: Executor) -> None:
        try:
            self._courier.step(executor)
        except Fenced as err:
            self._after(CaptureEvent.FENCED, err.message)

    def _ask(self) -> None:
        found = self._follower.standing
        if found is not None and found.base_after and self._follower.holds:
            problem = self._follower.base.step()
            if problem is not None:
                _log.warning("database %s: no exact copy to begin with: %s", self.wanted.database, problem)
            if not self._follower.base.busy and self._needs.base(found):
                self._follower.change(base_after=0)
                self._follower.base.close()
        elif self._phase.state is CaptureState.RUNNING and not self._proof.commit:
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
            self._after(CaptureEvent.PROOF_FAILED, str(err))

    def _after(self, event: CaptureEvent, text: str = "") -> None:
        """Do what the table says of an event, then stand as it says; where one of these fails, it stands as before."""
        found = transition(self._phase.state, event)
        if found is None:
            return
        if found.makes_durable and self._follower.holds:
            with contextlib.suppress(ContinuumError, OSError, Lost, TransactionTooLarge):
                self._follower.rotate_last()
        if found.gives_up_mark and self._follower.standing is not None:  # read on behind what the log holds now
            self._follower.change(mark=replace(self._follower.standing.mark, salts="f" * 16))
        if found.closes_copy:
            self._follower.base.close()
        if found.lets_go:
            self._let_go()
        if found.raises_fence:  # what is not shipped stays in the spool; the next capture begins a new timeline
            fence.put_up(self._follower.directory, text)
            self._follower.forget()
        self._phase = self._phase.after(found, text)
        self._timers = self._timers.paused(self._now(), found.pause_seconds)

    def _let_go(self) -> None:
        self._proof.close()
        try:
            self._follower.let_go()
        except PinsLost:
            self._follower.holds = False

    def _say(self, now: float) -> None:
        is_told = self._writer.state is self._phase.state
        if is_told and not self._timers.is_status_due(now, has_news=self._writer.has_news(self._phase)):
            return
        self._timers = replace(self._timers, said_at=now)
        self._write()

    def _write(self) -> None:
        self._writer.write(self._phase, trouble=self._needs.trouble)

    def _now(self) -> float:
        return self._place.clock.monotonic()
