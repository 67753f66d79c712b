"""Tell when a capture has something to do. Pure: the times come from whoever asks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from continuum_tasks.capture.plan.transitions import LONGEST_RETRY_SECONDS, RETRY_SECONDS

SAY_SECONDS = 0.5  # between two statuses while nothing but figures changes
IDLE_SAY_SECONDS = 5.0  # ... and while nothing changes at all
SAFETY_LOOK_SECONDS = 10.0  # without an event: the kernel may drop some when too many come at once


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureTimers:
    """When things were done and are due, all in seconds of the monotonic clock.

    A rotation is due `interval_seconds` after the last one. `again_at` is one more look after an event. `storage_pause` is how
    long the storage was left alone last, in seconds.
    """

    interval_seconds: float
    begin_at: float = 0.0
    rotated_at: float = 0.0
    looked_at: float = 0.0
    again_at: float = math.inf
    placed_at: float = 0.0
    said_at: float = 0.0
    storage_pause: float = RETRY_SECONDS

    @property
    def look_at(self) -> float:
        return min(self.looked_at + SAFETY_LOOK_SECONDS, self.again_at)

    @property
    def rotate_at(self) -> float:
        return self.rotated_at + self.interval_seconds

    def is_begin_due(self, now: float) -> bool:
        return now >= self.begin_at

    def is_rotation_due(self, now: float) -> bool:
        return now - self.rotated_at >= self.interval_seconds

    def is_look_due(self, now: float) -> bool:
        return now >= self.look_at

    def is_place_due(self, now: float) -> bool:
        """Tell whether to see again where the file is mounted."""
        return now >= self.placed_at + SAFETY_LOOK_SECONDS

    def is_status_due(self, now: float, *, has_news: bool) -> bool:
        return now >= self.said_at + (SAY_SECONDS if has_news else IDLE_SAY_SECONDS)

    def touched(self, now: float) -> CaptureTimers:
        """An event tells of frames; where fsync is slow their commit, of which none tells, comes after the next look."""
        return replace(self, again_at=now + self.interval_seconds)

    def looked_again(self, now: float) -> CaptureTimers:
        """Look once more after an event, not again and again."""
        return replace(self, again_at=math.inf) if now >= self.again_at else self

    def begun(self, now: float) -> CaptureTimers:
        return replace(self, rotated_at=now, looked_at=now)

    def paused(self, now: float, pause_seconds: float | None) -> CaptureTimers:
        """Begin again after a pause; None leaves the storage alone, twice as long each time up to the longest."""
        if pause_seconds is not None:
            return replace(self, begin_at=now + pause_seconds)
        pause = min(2 * self.storage_pause, LONGEST_RETRY_SECONDS)
        return replace(self, begin_at=now + pause, storage_pause=pause)

    def storage_answered(self) -> CaptureTimers:
        return replace(self, storage_pause=RETRY_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookTimes:
    """When a database was looked at last, in three times that are not to be mixed.

    `looked` is seconds of the monotonic clock: it only measures how long nobody looked, and means nothing in another process.
    `observed_us` is microseconds since 1970 (UTC), never less than at the look before: the commits of a look were seen then.
    `watched_until_us` is microseconds since 1970 (UTC) too: everything that was committed until then is durable on this host,
    0 when that is not known. It is behind `observed_us` while what was read waits to be made durable.
    """

    looked: float = 0.0
    observed_us: int = 0
    watched_until_us: int = 0

    def unseen_us(self, monotonic: float) -> int:
        """Return for how many microseconds before `monotonic` nobody looked."""
        return max(0, round((monotonic - self.looked) * 1_000_000))

    def at(self, monotonic: float, observed_us: int) -> LookTimes:
        """Return the times after a look."""
        return replace(self, looked=monotonic, observed_us=observed_us)

    def watched(self, *, at_least_us: int = 0) -> LookTimes:
        """Return the times once all that the last look found is durable."""
        return replace(self, watched_until_us=max(self.observed_us, at_least_us))
