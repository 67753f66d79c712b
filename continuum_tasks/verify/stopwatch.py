"""Measure a run by the phases its progress names."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from continuum_tasks.model import PhaseCost, Progress

T = TypeVar("T")


class Stopwatch:
    """Seconds and bytes of each phase, in the order in which they came; one that comes again is added to itself.

    A phase that does not tell what it moved counts with the whole it announced.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds: dict[str, float] = {}
        self._moved: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._phase = ""
        self._since = self._begun = monotonic()

    @property
    def elapsed_seconds(self) -> float:
        return round(self._monotonic() - self._begun, 3)

    @property
    def costs(self) -> tuple[PhaseCost, ...]:
        """Return what each phase took so far; the one that runs is counted up to now."""
        self._enter(self._phase)
        return tuple(
            PhaseCost(phase=phase, seconds=round(seconds, 3), n_bytes=self._moved[phase] or self._total[phase])
            for phase, seconds in self._seconds.items()
            if phase
        )

    def follow(self, steps: Generator[Progress, None, T]) -> Generator[Progress, None, T]:
        """Hand on the progress of a run and its result, and measure its phases on the way."""
        while True:
            try:
                progress = next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result
            self._enter(progress.phase)
            self._moved[progress.phase] = max(progress.n_bytes, self._moved.get(progress.phase, 0))
            self._total[progress.phase] = max(progress.total_bytes, self._total.get(progress.phase, 0))
            yield progress

    def _enter(self, phase: str) -> None:
        now = self._monotonic()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now
