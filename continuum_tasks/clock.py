"""The two clocks that a run is given as an argument: the time of day (UTC, aware) and seconds that only go up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
