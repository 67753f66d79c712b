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
from tests.capture.agent import Agent
from tests.capture.sizes import N_SAMPLES, STRESS_SECONDS


@contextmanager
def _capturer(database: Path, *, pins: str) -> Iterator[Agent]:
    """Run the reference capturer beside the database, in the directory `pins` or `nopins`."""
    directory = database.parent / pins
    directory.mkdir()

    def start() -> subprocess.Popen[bytes]:
        (directory / "ready").unlink(missing_ok=True)
        return crew.start("reference", database, directory, pins)

    agent = Agent(start, (directory / "ready").exists)
    try:
        agent.wait_ready()
        yield agent
    finally:
        agent.kill()


def _finish(agent: Agent, directory: Path) -> None:
    (directory / "stop").touch()
    assert agent.process.wait(timeout=60) == 0


def _samples(seen: list[verdict.Seen], n_samples: int) -> list[int]:
    numbers = [one.number for one in seen]
    return sorted({numbers[0], numbers[-1], *Random(3).sample(numbers, min(n_samples, len(numbers)))})


@pytest.mark.sampled
@pytest.mark.parametrize("page_size", workload.PAGE_SIZES)
def test_with_pins_no_commit_is_lost_whichever_writer_is_killed(scratch: Path, page_size: int) -> None:
    database = scratch / "live.db"
    crew.create(database, page_size)
    plan = crew.Plan(page_size=page_size, seconds=STRESS_SECONDS, seed=page_size)
    with _capturer(database, pins="pins") as agent:
        story = crew.run(database, plan)
        _finish(agent, scratch / "pins")
    seen = reference.seen(scratch / "pins")
    judged = verdict.judge(seen, final=story.final, witnessed=story.witnessed)
    figures = f"{story.n_kills} writers and {agent.n_kills} agents killed, WAL peak {story.wal_peak_bytes / 1e6:.1f} MB"
    print(f"\npins, {page_size}: {judged}; {figures}")
    assert judged.is_sound, str(judged)
    assert judged.n_holes == 0

    chosen = _samples(seen, N_SAMPLES)
    right = expected.hashes({seen[number - 1].n for number in chosen}, page_size=page_size)
    target = scratch / "restored.db"
    for n in reference.restore(scratch / "pins", chosen, target):
        assert oracle.logical_hash(target).sha256 == right[n], f"commit {n}"


@pytest.mark.sampled
def test_without_pins_the_same_harness_shows_losses(scratch: Path) -> None:
    database = scratch / "live.db"
    crew.create(database, 4096)
    plan = crew.Plan(page_size=4096, seconds=STRESS_SECONDS, seed=9, kill_writers=False)
    with _capturer(database, pins="nopins") as agent:
        story = crew.run(database, plan)
        _finish(agent, scratch / "nopins")
    judged = verdict.judge(reference.seen(scratch / "nopins"), final=story.final, witnessed=story.witnessed)
    print(f"\nno pins, 4096: {judged}; WAL peak {story.wal_peak_bytes / 1e6:.1f} MB")
    assert judged.lost
    assert not judged.invented
