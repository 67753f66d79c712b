"""Keep the three times of a look at a log apart, each with its unit. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


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
