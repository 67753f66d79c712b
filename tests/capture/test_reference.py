"""The harness proves itself: a capturer with pins passes it, the same without pins does not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from continuum_tasks.sample import oracle
from tests.capture import crew, expected, reference, verdict, workload
from tests.capture.sizes import N_SAMPLES, STRESS_SECONDS
from tests.integration.processes import until

_AGENT_LIVES_SECONDS = (0.7, 2.5)


class _Agent:
    """The reference capturer as a process that is killed at random, some time after it was ready, and comes back."""

    def __init__(self, database: Path, directory: Path, *, pins: str, seed: int) -> None:
        self._words = ("reference", database, directory, pins)
        self.directory = directory
        self._rng = Random(seed)
        self.n_kills = 0
        directory.mkdir()
        self._start()
        assert until(self._is_ready)

    def _start(self) -> None:
        self._process: subprocess.Popen[bytes] = crew.start(*self._words)
        self._kill_at: float | None = None

    def _is_ready(self) -> bool:
        return (self.directory / "ready").exists()

    def endanger(self, elapsed: float) -> None:
        if self._kill_at is None and self._is_ready():
            self._kill_at = elapsed + self._rng.uniform(*_AGENT_LIVES_SECONDS)
        if self._kill_at is not None and elapsed > self._kill_at:
            self.kill()
            self.n_kills += 1
            (self.directory / "ready").unlink()
            self._start()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def finish(self) -> None:
        (self.directory / "stop").touch()
        assert self._process.wait(timeout=60) == 0


@contextmanager
def _agent(database: Path, *, pins: str, seed: int = 1) -> Iterator[_Agent]:
    agent = _Agent(database, database.parent / pins, pins=pins, seed=seed)
    try:
        yield agent
    finally:
        agent.kill()


def _samples(seen: list[verdict.Seen], n_samples: int) -> list[int]:
    numbers = [one.number for one in seen]
    return sorted({numbers[0], numbers[-1], *Random(3).sample(numbers, min(n_samples, len(numbers)))})


@pytest.mark.parametrize("page_size", workload.PAGE_SIZES)
def test_with_pins_no_commit_is_lost_whatever_is_killed(scratch: Path, page_size: int) -> None:
    database = scratch / "live.db"
    crew.create(database, page_size)
    plan = crew.Plan(page_size=page_size, seconds=STRESS_SECONDS, seed=page_size)
    with _agent(database, pins="pins") as agent:
        story = crew.run(database, plan, meanwhile=agent.endanger)
        agent.finish()
    seen = reference.seen(agent.directory)
    judged = verdict.judge(seen, final=story.final, witnessed=story.witnessed)
    figures = f"{story.n_kills} writers and {agent.n_kills} agents killed, WAL peak {story.wal_peak_bytes / 1e6:.1f} MB"
    print(f"\npins, {page_size}: {judged}; {figures}")
    assert judged.is_sound, str(judged)
    assert judged.n_holes <= agent.n_kills  # while it runs it has none

    chosen = _samples(seen, N_SAMPLES)
    right = expected.hashes({seen[number - 1].n for number in chosen}, page_size=page_size)
    target = scratch / "restored.db"
    for n in reference.restore(agent.directory, chosen, target):
        assert oracle.logical_hash(target).sha256 == right[n], f"commit {n}"


def test_without_pins_the_same_harness_shows_losses(scratch: Path) -> None:
    database = scratch / "live.db"
    crew.create(database, 4096)
    plan = crew.Plan(page_size=4096, seconds=STRESS_SECONDS, seed=9, kill_writers=False)
    with _agent(database, pins="nopins") as agent:
        story = crew.run(database, plan)
        agent.finish()
    judged = verdict.judge(reference.seen(agent.directory), final=story.final, witnessed=story.witnessed)
    print(f"\nno pins, 4096: {judged}; WAL peak {story.wal_peak_bytes / 1e6:.1f} MB")
    assert judged.lost
    assert not judged.invented
