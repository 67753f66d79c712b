"""Phases measured by the progress a run reports."""

from __future__ import annotations

from collections.abc import Generator
from itertools import count

import pytest

from continuum_tasks.model import PhaseCost, Progress
from continuum_tasks.verify.stopwatch import Stopwatch


def steps(*phases: str) -> Generator[Progress, None, str]:
    for phase in phases:
        yield Progress(phase=phase, total_bytes=10)
    return "done"


def finish(run: Generator[Progress, None, str]) -> tuple[list[str], str]:
    seen = []
    while True:
        try:
            seen.append(next(run).phase)
        except StopIteration as stop:
            return seen, stop.value


def test_each_phase_has_the_time_until_the_next_began_and_one_that_comes_again_is_added() -> None:
    ticks = count()
    watch = Stopwatch(lambda: float(next(ticks)))

    assert finish(watch.follow(steps("plan", "fetch", "fetch", "plan"))) == (["plan", "fetch", "fetch", "plan"], "done")

    assert watch.costs == (
        PhaseCost(phase="plan", seconds=2.0, n_bytes=10),
        PhaseCost(phase="fetch", seconds=2.0, n_bytes=10),
    )


def test_bytes_are_those_that_were_moved_when_that_is_told_and_the_whole_otherwise() -> None:
    def moving() -> Generator[Progress, None, str]:
        yield Progress(phase="fetch", total_bytes=100)
        yield Progress(phase="fetch", n_bytes=60, total_bytes=60)
        return "done"

    watch = Stopwatch(lambda: 0.0)
    finish(watch.follow(moving()))

    assert watch.costs[0].n_bytes == 60


def test_what_a_run_raises_comes_through_and_its_phases_stay_measured() -> None:
    def failing() -> Generator[Progress, None, str]:
        yield Progress(phase="plan")
        raise ValueError("no")

    watch = Stopwatch(lambda: 0.0)
    with pytest.raises(ValueError, match="no"):
        finish(watch.follow(failing()))

    assert [cost.phase for cost in watch.costs] == ["plan"]
