"""Many numbers over time in a few: last, extremes, median, and a line of block characters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A series in numbers; `last` is its newest value."""

    n: int
    last: float
    low: float
    median: float
    high: float


def summarise(values: Sequence[float]) -> Summary:
    """Sum up a series that is not empty, oldest value first."""
    return Summary(n=len(values), last=values[-1], low=min(values), median=median(values), high=max(values))


def sparkline(values: Sequence[float | None], *, width: int) -> str:
    """Draw a series, oldest first, as at most `width` blocks from its least to its greatest value; None leaves a blank.

    Of values that share a block the greatest is drawn: a peak is what one looks for. A flat series is drawn low.
    """
    drawn = [_greatest(part) for part in _parts(values, width)]
    known = [value for value in drawn if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return "".join(" " if value is None else _block(value, low, high) for value in drawn)


def trend_change(values: Sequence[float]) -> float | None:
    """Return by which share the later half's median is above the earlier half's, None of fewer than four or from zero."""
    half = len(values) // 2
    before = median(values[:half]) if half >= 2 else 0.0
    return median(values[-half:]) / before - 1 if before else None


def _parts(values: Sequence[float | None], width: int) -> list[Sequence[float | None]]:
    n = min(width, len(values))
    return [values[i * len(values) // n : (i + 1) * len(values) // n] for i in range(n)]


def _greatest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _block(value: float, low: float, high: float) -> str:
    return BLOCKS[0 if high <= low else round((value - low) / (high - low) * (len(BLOCKS) - 1))]
