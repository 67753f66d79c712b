"""A fan-out by rows ends: done by others, done here when nobody comes, failed when a unit kills whoever takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from continuum_tasks.assembly import fan_out
from continuum_tasks.assembly.fan_out import ByRows, UnitKind
from continuum_tasks.clock import Clock
from continuum_tasks.errors import JobFailed, ObjectDamaged
from continuum_tasks.host.jobs import Job, Jobs, JobState, open_jobs
from continuum_tasks.process import worker_id

DEAD = "h1/00000000/0/1/1"  # of another boot


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubled:
    n: int


def double(unit: Unit) -> Doubled:
    if unit.n < 0:
        raise ObjectDamaged(f"object {unit.n}: damaged", hint="none")
    return Doubled(n=2 * unit.n)


def now() -> datetime:
    return datetime.now(UTC)


class Time:
    """A clock that moves a second whenever somebody waits; it gives up on whoever waits for ever."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wait(self, _seconds: float) -> None:
        self.seconds += 1
        assert self.seconds < 100, "the fan-out waits for ever"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with closing(open_jobs(tmp_path / "metadata.db")) as opened:
        yield opened


def fan(jobs: Jobs, ring: Callable[[Job], object]) -> ByRows:
    jobs.add("whole", {}, id="p", max_attempts=3, now=now())
    parent = jobs.claim("p", worker_id("h1"), lease_seconds=60, now=now())
    assert parent is not None
    time = Time()
    return ByRows(
        jobs=jobs,
        parent=parent,
        ring=ring,
        works={"double": UnitKind(run=double, unit=Unit, result=Doubled)},
        window=2,
        worker=worker_id("h1"),
        lease_seconds=60,
        clock=Clock(now=now, monotonic=lambda: time.seconds),
        pause=time.wait,
    )


def numbers(*ns: int) -> list[Unit]:
    return [Unit(n=n) for n in ns]


def test_units_are_done_here_when_nobody_comes(jobs: Jobs) -> None:
    found = dict(fan(jobs, lambda job: None).run("double", numbers(1, 2, 3, 4, 5)))
    assert found == {n: Doubled(n=2 * n + 2) for n in range(5)}


def test_units_others_have_done_are_taken_as_they_are(jobs: Jobs) -> None:
    def elsewhere(job: Job) -> None:
        claimed = jobs.claim(job.id, DEAD, lease_seconds=60, now=now())
        assert claimed is not None
        jobs.finish(job.id, claimed.token, {"n": 7}, now=now())

    assert dict(fan(jobs, elsewhere).run("double", numbers(1, 2))) == {0: Doubled(n=7), 1: Doubled(n=7)}


def test_a_unit_whose_worker_died_is_done_here(jobs: Jobs) -> None:
    def die(job: Job) -> None:
        jobs.claim(job.id, DEAD, lease_seconds=60, now=now())

    assert dict(fan(jobs, die).run("double", numbers(1, 2))) == {0: Doubled(n=2), 1: Doubled(n=4)}


def test_a_unit_that_killed_as_many_workers_as_are_allowed_ends_the_run(jobs: Jobs) -> None:
    """Without a beat nobody else ends the row, and the run would wait until its time limit."""

    def die_often(job: Job) -> None:
        for _ in range(job.max_attempts):
            assert jobs.claim(job.id, DEAD, lease_seconds=60, now=now()) is not None

    with pytest.raises(JobFailed, match="stopped without a result in 3 of 3 attempts"):
        list(fan(jobs, die_often).run("double", numbers(1, 2)))


@pytest.mark.parametrize("n", [1, -1])
def test_a_unit_that_was_taken_over_while_it_ran_here_does_not_look_like_the_loss_of_the_run(jobs: Jobs, n: int) -> None:
    """Both ways out of the work, done and failed, meet a row that another worker holds by then and ends."""

    def overtaken(unit: Unit) -> Doubled:
        for job in jobs.children("p"):
            if job.state is JobState.RUNNING:
                later = now() + timedelta(hours=1)
                claimed = jobs.claim(job.id, DEAD, lease_seconds=60, now=later)
                assert claimed is not None
                jobs.finish(job.id, claimed.token, {"n": 7}, now=later)
        return double(unit)

    slow = replace(
        fan(jobs, lambda job: None), works={"double": UnitKind(run=overtaken, unit=Unit, result=Doubled)}, lease_seconds=1
    )
    assert dict(slow.run("double", numbers(n, n))) == {0: Doubled(n=7), 1: Doubled(n=7)}


def test_the_first_failure_is_raised_as_what_it_was(jobs: Jobs) -> None:
    with pytest.raises(ObjectDamaged, match="object -1: damaged"):
        list(fan(jobs, lambda job: None).run("double", numbers(1, -1, 2)))


def test_the_units_of_a_run_that_failed_are_left_to_nobody(jobs: Jobs) -> None:
    """A worker that claimed one later would look for a staged copy that is gone."""
    with pytest.raises(ObjectDamaged):
        list(fan(jobs, lambda job: None).run("double", numbers(-1, 1, 2)))
    assert {job.state for job in jobs.children("p")} == {JobState.FAILED}
    assert jobs.due(now() + timedelta(hours=1)) == (jobs.get("p"),)


def test_what_fits_one_chunk_never_fans_out(jobs: Jobs) -> None:
    def refuse(job: Job) -> None:
        raise AssertionError(job)

    assert list(fan(jobs, refuse).run("double", numbers(4))) == [(0, Doubled(n=8))]
    assert jobs.children("p") == ()


def test_nobody_is_given_up_on_in_a_moment() -> None:
    assert 1 <= fan_out.PATIENCE_SECONDS <= 10
