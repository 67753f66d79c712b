"""Bring spooled segments into the storage, in order, in a thread, and remember how long that took."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from continuum_tasks.capture.reader.follower import CommitFollower
from continuum_tasks.capture.shipping import ended_timelines
from continuum_tasks.capture.shipping.spool import Spool
from continuum_tasks.capture.state.environment import CaptureContext
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.errors import ContinuumError, Fenced
from continuum_tasks.model import TimelineId
from continuum_tasks.repository.repository import Repository
from continuum_tasks.repository.timelines import check_timeline, list_segments, put_spooled, put_timeline

_log = logging.getLogger(__name__)
N_AT_THE_END = 8
N_LAGS = 2048  # the last so many commits tell the lag: two minutes of a busy database, 16 of each segment
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0


@dataclass(slots=True, kw_only=True)
class Shipped:
    """What was shipped since this process began. Written by the thread that ships, read by the one that captures."""

    commit: int = 0
    observed_us: int = 0
    n_segments: int = 0
    n_bytes: int = 0
    n_requests: int = 0
    lags_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=N_LAGS))

    def lag(self, share: float) -> float:
        """Return the lag (seconds) that `share` of the last commits did not exceed, 0 before the first."""
        known = sorted(self.lags_seconds)
        return round(known[min(len(known) - 1, int(share * len(known)))], 3) if known else 0.0


class SegmentShipper:
    """The shipping of one database's segments; one thread at a time is at it."""

    def __init__(self, follower: CommitFollower, *, place: CaptureContext) -> None:
        self.shipped = Shipped()
        self.trouble = ""
        self._checked = ""
        self._done = ("", 0)
        self._follower = follower
        self._place = place
        self._running: Future[TimelineId | None] | None = None
        self._not_before = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._ends = False

    @property
    def busy(self) -> bool:
        return self._running is not None

    @property
    def durable_commit(self) -> int:
        """Return the last commit that is in the storage, 0 when that is not known yet."""
        found = self._follower.standing
        if found is None or self._waits(found):
            return self.shipped.commit if self._is_of(found) else 0
        return found.commit

    @property
    def durable_us(self) -> int:
        """Return when `durable_commit` was seen (microseconds since 1970), 0 when that is not known yet."""
        found = self._follower.standing
        if found is None or self._waits(found):
            return self.shipped.observed_us if self._is_of(found) else 0
        return found.observed_us

    def step(self, executor: Executor) -> None:
        """Ship what waits, if nothing is at it. Raises Fenced when another writer has written on this timeline."""
        if self._running is not None and self._running.done():
            finished, self._running = self._running, None
            self._after(finished)
        found = self._follower.standing
        now = self._place.clock.monotonic()
        if self._running is None and found is not None and now >= self._not_before and self._waits(found):
            self._running = executor.submit(self.ship)

    def seconds_until_due(self) -> float | None:
        """Return how long nothing is to be done here; None when nothing waits."""
        if self._running is not None:
            return 0.02
        found = self._follower.standing
        if found is None or not self._waits(found):
            return None
        return max(0.0, self._not_before - self._place.clock.monotonic())

    def ship(self) -> TimelineId | None:
        """Ship what waits, oldest first, the timeline's own document before its first segment; returns which timeline's.

        Raises StorageError (what is left waits on), Fenced.
        """
        self._ship_leftovers()
        found = self._follower.standing
        if found is None:
            return None
        repository, spool = self._place.repository(found.storage), Spool(self._follower.directory, found.timeline.id)
        if self._checked != found.timeline.id:
            self._check_alone(found, repository)
        if not found.published and self._shipped_of(found) == 0:
            put_timeline(repository, found.timeline)
        else:
            check_timeline(repository, found.timeline)
        self.shipped.n_requests += 1
        for number, waiting in enumerate(spool.waiting()):
            if waiting.seq > found.seq or (self._ends and number >= N_AT_THE_END):
                return found.timeline.id
            data = waiting.path.read_bytes()
            put_spooled(repository, found.timeline, waiting.seq, data)
            spool.remove(waiting.seq)
            self._note(found, waiting.seq, len(data))
        self._done = (found.timeline.id, found.seq)
        return found.timeline.id

    def cancel(self) -> None:
        """Begin nothing more, and ship no more than a few: what waits after an outage may take an hour."""
        self._ends = True
        if self._running is not None:
            self._running.cancel()

    def _ship_leftovers(self) -> None:
        """Ship what ended timelines left: their last commits are on this host alone."""
        for left in ended_timelines.leftovers(self._follower.directory):
            try:
                self._ship_leftover(left)
            except Fenced as err:  # of a timeline that is over: the present one is another's business
                _log.warning("%s; what was captured here at its end is not shipped", err.message)
                ended_timelines.give_up(self._follower.directory, left)
            else:
                ended_timelines.remove_spool(self._follower.directory, left)

    def _ship_leftover(self, left: ended_timelines.EndedTimeline) -> None:
        repository, spool = self._place.repository(left.storage), Spool(self._follower.directory, left.timeline.id)
        if left.published:
            check_timeline(repository, left.timeline)
        else:
            put_timeline(repository, left.timeline)
        for waiting in spool.waiting():
            put_spooled(repository, left.timeline, waiting.seq, waiting.path.read_bytes())
            spool.remove(waiting.seq)

    def _check_alone(self, found: CaptureProgress, repository: Repository) -> None:
        """Refuse to go on behind another writer: what it wrote may be merged by now, so that no name would be taken."""
        there = list_segments(repository, found.timeline) if found.published else ()
        self.shipped.n_requests += found.published
        if there and there[-1].last_seq > found.seq:
            raise Fenced(
                f"timeline {found.timeline.id} of {found.timeline.database}: storage {found.storage} has segment"
                f" {there[-1].last_seq}, this host made {found.seq}",
                hint="another host captures it: stop it; `continuum backup create --strategy continuous` begins a new timeline",
            )
        self._checked = found.timeline.id

    def _is_of(self, found: CaptureProgress | None) -> bool:
        """Tell whether what was shipped last was of this timeline."""
        return found is None or found.timeline.id == self._done[0]

    def _waits(self, found: CaptureProgress) -> bool:
        return found.seq > self._shipped_of(found) or not found.published

    def _shipped_of(self, found: CaptureProgress) -> int:
        """Return the last segment of this timeline that is in the storage, as far as this process knows."""
        timeline, seq = self._done
        return seq if timeline == found.timeline.id else 0

    def _note(self, found: CaptureProgress, seq: int, n_bytes: int) -> None:
        sealed = self._follower.sealed.pop(seq, None)
        if sealed is not None:
            now = self._place.clock.monotonic()
            self.shipped.lags_seconds.extend(now - at for at in sealed.seen_at)
            self.shipped.commit, self.shipped.observed_us = sealed.last_commit, sealed.observed_us
        self._done = (found.timeline.id, seq)
        self.shipped.n_segments += 1
        self.shipped.n_bytes += n_bytes
        self.shipped.n_requests += 1

    def _after(self, finished: Future[TimelineId | None]) -> None:
        err = finished.exception()
        if err is None:
            self._pause, self.trouble = FIRST_PAUSE_SECONDS, ""
            found = self._follower.standing  # a restore may have begun another one since
            if found is not None and not found.published and found.timeline.id == finished.result():
                self._follower.change(published=True)
            return
        if isinstance(err, Fenced) or not isinstance(err, (ContinuumError, OSError)):
            raise err
        self.trouble = f"not shipped: {err}"
        self._not_before = self._place.clock.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
