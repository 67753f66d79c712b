"""From values to places: where bars and lines stand, and which numbers an axis names. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 920.0, 64.0, 8.0, 8.0, 22.0

# Ages worth a line on a logarithmic axis, in seconds.
AGES = (
    *(
        (1, "1 s"),
        (10, "10 s"),
        (60, "1 min"),
        (300, "5 min"),
        (900, "15 min"),
        (3_600, "1 h"),
        (4 * 3_600, "4 h"),
        (12 * 3_600, "12 h"),
    ),
    *((86_400, "1 d"), (3 * 86_400, "3 d"), (7 * 86_400, "7 d"), (30 * 86_400, "30 d"), (365 * 86_400, "1 y")),
)
# The same for how long commits took to the storage.
LAGS = ((0.03, "30 ms"), (0.1, "0.1 s"), (0.3, "0.3 s"), (1, "1 s"), (3, "3 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    value: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertical:
    """A vertical axis of so many units of height, from `low` (linear: 0) to `high`."""

    height: float
    low: float
    high: float
    logarithmic: bool = False

    def y(self, value: float) -> float:
        """Return how far down a value stands; what is beyond the axis stands at its end."""
        bounded = min(max(value, self.low), self.high)
        share = (
            math.log(bounded / self.low) / math.log(self.high / self.low)
            if self.logarithmic
            else (bounded - self.low) / (self.high - self.low)
        )
        return TOP + (self.height - TOP - BOTTOM) * (1 - share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizontal:
    """The period as a horizontal axis."""

    since: datetime
    until: datetime

    def x(self, at: datetime) -> float:
        """Return how far to the right an instant stands; what is outside the period stands at its end."""
        share = (at - self.since) / (self.until - self.since)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, share))

    def ticks(self) -> list[tuple[datetime, str]]:
        """Return the instants to name: every 3 hours of a day, else midnights, of a month every fifth or so."""
        span = self.until - self.since
        step = timedelta(hours=3) if span <= timedelta(days=1) else timedelta(days=max(1, round(span.days / 7)))
        at = self.since.replace(hour=0, minute=0, second=0, microsecond=0)
        ticks = []
        while at <= self.until:
            if at >= self.since:
                ticks.append((at, f"{at:%H:%M}" if step < timedelta(days=1) else f"{at:%a} {at.day} {at:%b}"))
            at += step
        return ticks


def age_axis(values: Sequence[float], marks: Sequence[tuple[float, str]] = AGES) -> tuple[float, float, list[Tick]]:
    """Return bounds and ticks of a logarithmic axis for ages in seconds; they hold every value above the first mark."""
    highest = max(values, default=0.0)
    lowest = max(marks[0][0], min(values, default=60.0))
    low_index = max(i for i, (age, _) in enumerate(marks[:-1]) if age <= lowest)
    high_index = next((i for i, (age, _) in enumerate(marks) if age >= highest and i > low_index), len(marks) - 1)
    chosen = marks[low_index : high_index + 1]
    return float(chosen[0][0]), float(chosen[-1][0]), [Tick(value=float(age), label=label) for age, label in chosen]


def count_axis(highest: float) -> tuple[float, list[Tick]]:
    """Return the end of a linear axis from 0 that holds `highest`, and two to five round numbers on it."""
    step = max(1.0, _round_step(max(highest, 1.0) / 4))
    end = step * math.ceil(max(highest, 1.0) / step)
    return end, [Tick(value=step * i, label=f"{step * i:.0f}") for i in range(round(end / step) + 1)]


def sizes(highest: float) -> tuple[float, list[Tick]]:
    """As `count_axis`, for bytes in binary units."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(len(units) - 1, int(math.log(max(highest, 1.0), 1024)))
    scale = 1024.0**power
    step = _round_step(max(highest, 1.0) / scale / 4)
    n = math.ceil(max(highest, 1.0) / scale / step)
    ticks = [Tick(value=step * i * scale, label=f"{step * i:g} {units[power]}") for i in range(n + 1)]
    return n * step * scale, ticks


def seconds_axis(highest: float) -> tuple[float, list[Tick]]:
    """As `count_axis`, for durations in seconds."""
    unit, size = next(((u, s) for u, s in (("h", 3_600), ("min", 60)) if highest >= 2 * s), ("s", 1))
    step = _round_step(max(highest, 0.1) / size / 4)
    n = math.ceil(max(highest, 0.1) / size / step)
    return n * step * size, [Tick(value=step * i * size, label=f"{step * i:g} {unit}") for i in range(n + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
