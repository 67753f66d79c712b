"""capture/watch.py: keep the capture of one database going: when to look, rotate, ship, ask for a backup, let go, try again."""

from __future__ import annotations

import json
import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path

from continuum_tasks.capture import fence, release
from continuum_tasks.capture.errand import Errand
from continuum_tasks.capture.follower import Follower, Lost
from continuum_tasks.capture.pins import Pins, PinsLost
from continuum_tasks.capture.place import Place
from continuum_tasks.capture.shipper import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Shipped, ship
from continuum_tasks.capture.status import State, Status, read_status, write_status
from continuum_tasks.capture.walfile import TransactionTooLarge
from continuum_tasks.errors import ContinuumError, Fenced, NoSpace, SourceBusy

RETRY_SECONDS = 1.0
SAY_SECONDS = 0.5  # between two statuses while nothing but figures changes
LIMIT_PAUSE_SECONDS = 10.0  # after letting go of a log that was too large: time for it to be begun anew
SAFETY_LOOK_SECONDS = 10.0  # without an event: the kernel may drop some when too many come at once
JOURNAL_PAUSE_SECONDS = 15.0  # between two backups of a rollback-journal database that changes all the time
N_SEGMENTS_TO_MERGE = 120  # so many seconds of a busy database: then compaction is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A database to be captured: its name, the storage its segments go to, and its file."""

    database: str
    storage: str
    path: Path


class Watch:
    """One database and all that its capture needs; `step` is called whenever something may be due, and never waits."""

    def __init__(self, wanted: Wanted, *, pins: Pins, place: Place, errand: Errand) -> None:
        self.wanted = wanted
        self.follower = Follower(wanted.database, wanted.storage, wanted.path, pins=pins, place=place)
        self.shipped = Shipped()
        self._pins = pins
        self._place = place
        self._errand = errand
        self._state, self._detail = State.WAITING, "begins"
        if fence.is_up(self.follower.directory):
            self._state, self._detail = State.FENCED, fence.reason(self.follower.directory)
        self._dirty = self._uncaptured = True
        self._retry_at = self._rotated_at = self._looked_at = self._ship_at = 0.0
        self._ship_pause = FIRST_PAUSE_SECONDS
        self._shipping: Future[None] | None = None
        self._said: Status | None = None
        self._said_at = 0.0
        self._merged_at_segment = 0
        known = read_status(place.directory.parent, wanted.database)
        self._watched_until_us = 0 if known is None else known.watched_until_us
        self._settled_ns = 0

    @property
    def directory(self) -> Path:
        """Return the directory whose events concern this database."""
        return self.wanted.path.parent

    def touched(self, changed: frozenset[Path]) -> None:
        """Take note of files that changed."""
        path = self.wanted.path
        names = {path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal")}
        asked = {f"{self.wanted.database}.look", f"{self.wanted.database}.release"}
        if any(one in names for one in changed) or any(one.name in asked for one in changed):
            self._dirty = True

    def step(self, executor: Executor) -> None:
        """Do what is due. Raises PinsLost when the process that holds the pins is gone."""
        now = self._place.clock.monotonic()
        if self._state is State.FENCED:
            if fence.is_up(self.follower.directory):
                return
            self._wait("begins anew", 0.0)
        if release.is_asked_to_let_go(self._place.directory / release.REQUESTS, self.wanted.database):
            self._release()
        elif not self.follower.holds and now >= self._retry_at and (self._dirty or self._state is not State.JOURNAL):
            self._begin(now)
        if self.follower.holds and (self._dirty or self._is_rotation_due(now) or now - self._looked_at >= SAFETY_LOOK_SECONDS):
            self._follow(now)
        self._ship(now, executor)
        self._errands(now)
        self._say(now)

    def seconds_until_due(self) -> float:
        """Return how long nothing is due without an event."""
        now = self._place.clock.monotonic()
        times = [self._looked_at + SAFETY_LOOK_SECONDS]
        if self._uncaptured or self._dirty:
            times.append(self._rotated_at + self._place.capture.interval_seconds)
        if not self.follower.holds:
            times.append(self._retry_at)
        if self._shipping is not None:
            times.append(now + 0.02)
        elif self._waits_to_ship():
            times.append(self._ship_at)
        if self._errand.busy:
            times.append(now + 0.5)
        return max(0.0, min(times) - now)

    def lost_pins(self) -> None:
        """Take note that the process that held the pins died."""
        self._lapse("the process that held the log ended", RETRY_SECONDS)

    def close(self, *, detail: str) -> None:
        """End the capture: what was read is made durable and shipped if that works at once, and the database let go."""
        if self.follower.holds:
            try:
                self.follower.rotate()
                self._ship_now()
            except (ContinuumError, Lost, PinsLost) as err:
                detail = f"{detail}; {err}"
            self._watched_until_us = max(self._watched_until_us, self.follower.looked_us)
        if self._shipping is not None:
            self._shipping.cancel()
        self._errand.close()
        self._let_go()
        self._state, self._detail = State.STOPPED, detail
        write_status(self.follower.directory, self._status())

    def _begin(self, now: float) -> None:
        self._dirty = True
        try:
            judgement = self.follower.begin(watched_until_us=self._watched_until_us)
        except (ContinuumError, TransactionTooLarge, Lost) as err:
            self._wait(str(err), RETRY_SECONDS)
            return
        if judgement is None:
            self._state, self._detail = State.JOURNAL, f"journal mode {self.follower.journal_mode}: backed up when it changes"
            self._retry_at, self._dirty = now + JOURNAL_PAUSE_SECONDS, False
            self._back_up_journal()
            return
        self._state, self._detail = State.RUNNING, judgement.reason
        self._rotated_at = self._looked_at = now
        self._uncaptured = True

    def _follow(self, now: float) -> None:
        try:
            settled_ns = time.monotonic_ns()
            came = self.follower.look()
            self._looked_at, self._dirty = now, False
            self._uncaptured = self._uncaptured or bool(came)
            if self._is_rotation_due(now):
                settled_ns = time.monotonic_ns()
                self.follower.rotate()
                self._rotated_at, self._uncaptured = now, False
            self._settled_ns = settled_ns if not self.follower.pending_bytes else self._settled_ns
            self._detail = "" if self._detail.startswith("spool:") else self._detail
            self._watched_until_us = self.follower.looked_us
        except NoSpace as err:
            self._detail = f"spool: {err.message}"
            self._looked_at = now
        except (SourceBusy, FileNotFoundError) as err:
            self._detail, self._looked_at = str(err), now
        except Lost as err:
            self._lapse(str(err), 0.0)
            return
        except TransactionTooLarge as err:
            self._forget_mark(str(err))
            return
        if self.follower.log_bytes > self._place.capture.wal_limit_bytes:
            self._lapse(f"the log has {self.follower.log_bytes} bytes, more than wal_limit_bytes: let go", LIMIT_PAUSE_SECONDS)

    def _is_rotation_due(self, now: float) -> bool:
        return self._uncaptured and now - self._rotated_at >= self._place.capture.interval_seconds

    def _forget_mark(self, why: str) -> None:
        """Give up what is in the log: the next begin finds other salts than none, which is a hole."""
        if self.follower.standing is not None:
            mark = self.follower.standing.mark
            self.follower.change(mark=type(mark)(salts="0" * 16, frame=0, checksum=(0, 0)))
        self._lapse(why, 0.0)

    def _release(self) -> None:
        if self.follower.holds:
            try:
                self.follower.rotate()
            except (ContinuumError, Lost) as err:
                self._detail = str(err)
        self._let_go()
        self._state, self._detail = State.RELEASED, "let go: a restore asked for it"
        self._retry_at = self._place.clock.monotonic() + 0.2

    def _lapse(self, why: str, pause_seconds: float) -> None:
        self._let_go()
        self._wait(why, pause_seconds)

    def _wait(self, why: str, pause_seconds: float) -> None:
        self._state, self._detail = State.WAITING, why
        self._retry_at = self._place.clock.monotonic() + pause_seconds

    def _let_go(self) -> None:
        try:
            self.follower.let_go()
        except PinsLost:
            self.follower.holds = False

    def _waits_to_ship(self) -> bool:
        found = self.follower.standing
        return found is not None and (found.seq > self.shipped.seq or not found.published)

    def _ship(self, now: float, executor: Executor) -> None:
        if self._shipping is not None and self._shipping.done():
            finished, self._shipping = self._shipping, None
            self._after_shipping(finished, now)
        if self._shipping is None and self._state is not State.FENCED and now >= self._ship_at and self._waits_to_ship():
            self._shipping = executor.submit(self._ship_now)

    def _ship_now(self) -> None:
        found, spool = self.follower.standing, self.follower.spool()
        if found is None or spool is None:
            return
        repository = self._place.repository(found.storage)
        ship(found, spool, self.shipped, repository=repository, seen=self.follower.seen, monotonic=self._place.clock.monotonic)
        self.shipped.seq = max(self.shipped.seq, found.seq)

    def _after_shipping(self, finished: Future[None], now: float) -> None:
        err = finished.exception()
        if err is None:
            self._ship_pause = FIRST_PAUSE_SECONDS
            if self.follower.standing is not None and not self.follower.standing.published:
                self.follower.change(published=True)
            return
        if isinstance(err, Fenced):
            self._let_go()
            self._fence(err.message)
            return
        if not isinstance(err, ContinuumError):
            raise err
        self._detail = f"not shipped: {err.message}"
        self._ship_at = now + self._ship_pause
        self._ship_pause = min(2 * self._ship_pause, LONGEST_PAUSE_SECONDS)

    def _fence(self, why: str) -> None:
        """Stop: what was captured here and not shipped stays in the spool, and the next capture begins a new timeline."""
        fence.put_up(self.follower.directory, why)
        self.follower.forget()
        self._state, self._detail = State.FENCED, why
        write_status(self.follower.directory, self._status())

    def _errands(self, now: float) -> None:
        returned = self._errand.returned()
        if returned is not None:
            self._after_errand(*returned)
        if self._errand.busy or self._shipping is not None:
            return
        found = self.follower.standing
        if found is not None and found.base_after and self.follower.holds and found.published:
            self._send("create", "--strategy", "incremental", "--force", "--storage", found.storage)
        elif self.shipped.n_segments - self._merged_at_segment >= N_SEGMENTS_TO_MERGE:
            self._merged_at_segment = self.shipped.n_segments
            self._send("compact", "--storage", self.wanted.storage)

    def _send(self, verb: str, *options: str) -> None:
        self._errand.send(("backup", verb, "--database", self.wanted.database, *options, "--format", "json"))

    def _back_up_journal(self) -> None:
        if not self._errand.busy:
            self._send("create", "--strategy", "incremental", "--storage", self.wanted.storage)

    def _after_errand(self, code: int, printed: str) -> None:
        found = self.follower.standing
        if code:
            self._detail = f"a backup or compaction failed: {printed.strip().splitlines()[-1] if printed.strip() else code}"
            return
        position = _position(printed)
        if found is not None and found.base_after and position is not None:
            if position.get("timeline") == found.timeline.id and int(str(position.get("commit", 0))) >= found.base_after:
                self.follower.change(base_after=0)

    def _say(self, now: float) -> None:
        if self._said is not None and self._said.state is self._state and now < self._said_at + SAY_SECONDS:
            return
        status = self._status()
        if self._said is None or status != replace(self._said, updated_us=status.updated_us):
            write_status(self.follower.directory, status)
            self._said = status
        self._said_at = now

    def _status(self) -> Status:
        found, spool = self.follower.standing, self.follower.spool()
        waiting = [] if spool is None else spool.waiting()
        wal_bytes = self.follower.source.wal_bytes()
        return Status(
            database=self.wanted.database,
            state=self._state,
            detail=self._detail,
            worker=self._place.worker,
            storage=self.wanted.storage,
            timeline="" if found is None else found.timeline.id,
            commit=0 if found is None else found.commit,
            observed_us=0 if found is None else found.observed_us,
            durable_commit=0,
            watched_until_us=self._watched_until_us,
            settled_monotonic_ns=self._settled_ns,
            lag_seconds=round(self.shipped.last_lag, 3),
            lag_p50_seconds=round(self.shipped.lag(0.5), 3),
            lag_p95_seconds=round(self.shipped.lag(0.95), 3),
            wal_bytes=wal_bytes,
            wal_alarm=wal_bytes > self._place.capture.wal_alarm_bytes,
            spool_bytes=sum(one.size_bytes for one in waiting),
            spool_segments=len(waiting),
            n_pins=self._pins.count(self.wanted.path),
            n_holes=self.follower.n_holes,
            n_commits=0,
            shipped_bytes=self.shipped.n_bytes,
            n_requests=self.shipped.n_requests,
            source="" if found is None else found.source,
            updated_us=self._place.now_us(),
        )


def _position(printed: str) -> dict[str, object] | None:
    """Find the position in what `create --format json` printed, after whatever else it said."""
    try:
        made = json.loads(printed[printed.index("{") :])
    except ValueError:
        return None
    position = made.get("position") if isinstance(made, dict) else None
    return position if isinstance(position, dict) else None
