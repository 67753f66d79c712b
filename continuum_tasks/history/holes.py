"""What a capture missed, as it is noted on its host. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from continuum_tasks.units import instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A time in which commits may have been made that were not captured, and why. Microseconds since 1970.

    `commit` is the first one after it, on `timeline`.
    """

    timeline: str
    commit: int
    from_us: int
    to_us: int
    reason: str

    @property
    def begins_at(self) -> datetime:
        return instant(self.from_us)

    @property
    def ends_at(self) -> datetime:
        return instant(self.to_us)

    def seconds_within(self, since: datetime, until: datetime) -> float:
        """Return how much of it lies in a period."""
        return max(0.0, (min(self.ends_at, until) - max(self.begins_at, since)).total_seconds())


def since(holes: Iterable[Hole], at: datetime) -> tuple[Hole, ...]:
    """Return the holes that end at or after an instant, the newest first."""
    return tuple(sorted((hole for hole in holes if hole.ends_at >= at), key=lambda hole: hole.to_us, reverse=True))
