"""capture/courier.py: bring spooled segments into the storage, in order, in a thread, and remember how long that took."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from continuum_tasks.capture.follower import Follower
from continuum_tasks.capture.place import Place
from continuum_tasks.capture.spool import Spool
from continuum_tasks.capture.standing import Standing
from continuum_tasks.errors import ContinuumError, Fenced
from continuum_tasks.timelines import put_spooled, put_timeline

N_LAGS = 2048  # the last so many commits tell the lag: two minutes of a busy database, 16 of each segment
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0


@dataclass(slots=True, kw_only=True)
class Shipped:
    """What was shipped since this process began. Written by the thread that ships, read by the one that captures."""

    seq: int = 0
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


class Courier:
    """The shipping of one database's segments; one thread at a time is at it."""

    def __init__(self, follower: Follower, *, place: Place) -> None:
        self.shipped = Shipped()
        self.trouble = ""
        self._follower = follower
        self._place = place
        self._running: Future[None] | None = None
        self._not_before = 0.0
        self._pause = FIRST_PAUSE_SECONDS

    @property
    def busy(self) -> bool:
        return self._running is not None

    @property
    def durable_commit(self) -> int:
        """Return the last commit that is in the storage, 0 when that is not known yet."""
        found = self._follower.standing
        return found.commit if found is not None and not self._waits(found) else self.shipped.commit

    @property
    def durable_us(self) -> int:
        """Return when `durable_commit` was seen (microseconds since 1970), 0 when that is not known yet."""
        found = self._follower.standing
        return found.observed_us if found is not None and not self._waits(found) else self.shipped.observed_us

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

    def ship(self) -> None:
        """Ship what waits, oldest first, the timeline's own document before its first segment.

        Raises StorageError (what is left waits on), Fenced.
        """
        found = self._follower.standing
        if found is None:
            return
        repository, spool = self._place.repository(found.storage), Spool(self._follower.directory, found.timeline.id)
        if not found.published and self.shipped.seq == 0:
            put_timeline(repository, found.timeline)
            self.shipped.n_requests += 1
        for waiting in spool.waiting():
            if waiting.seq > found.seq:
                return
            data = waiting.path.read_bytes()
            put_spooled(repository, found.timeline, waiting.seq, data)
            spool.remove(waiting.seq)
            self._note(waiting.seq, len(data))
        self.shipped.seq = max(self.shipped.seq, found.seq)

    def cancel(self) -> None:
        """Begin nothing more."""
        if self._running is not None:
            self._running.cancel()

    def forget(self) -> None:
        """Begin again with nothing shipped: another timeline is captured now."""
        self.shipped.seq = self.shipped.commit = self.shipped.observed_us = 0

    def _waits(self, found: Standing) -> bool:
        return found.seq > self.shipped.seq or not found.published

    def _note(self, seq: int, n_bytes: int) -> None:
        sealed = self._follower.sealed.pop(seq, None)
        if sealed is not None:
            now = self._place.clock.monotonic()
            self.shipped.lags_seconds.extend(now - at for at in sealed.seen_at)
            self.shipped.commit, self.shipped.observed_us = sealed.last_commit, sealed.observed_us
        self.shipped.seq = seq
        self.shipped.n_segments += 1
        self.shipped.n_bytes += n_bytes
        self.shipped.n_requests += 1

    def _after(self, finished: Future[None]) -> None:
        err = finished.exception()
        if err is None:
            self._pause, self.trouble = FIRST_PAUSE_SECONDS, ""
            if self._follower.standing is not None and not self._follower.standing.published:
                self._follower.change(published=True)
            return
        if isinstance(err, Fenced) or not isinstance(err, ContinuumError):
            raise err
        self.trouble = f"not shipped: {err.message}"
        self._not_before = self._place.clock.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
