"""Following a job row: what is said, when the broker is rung again, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import click
import pytest

from continuum_tasks.cli.frame import enqueue
from continuum_tasks.cli.frame.enqueue import Subject, follow_job
from continuum_tasks.clock import Clock
from continuum_tasks.config import load_config
from continuum_tasks.errors import BrokerUnreachable, JobFailed, NoWorker, SourceBusy
from continuum_tasks.host.job_kinds import CreateBackup
from continuum_tasks.host.jobs import Job, JobState
from continuum_tasks.model import Progress, Strategy
from continuum_tasks.runtime import Runtime, open_runtime

pytestmark = pytest.mark.slow

WORK = Subject(
    arguments=CreateBackup(database="memory", strategy=Strategy.FULL), title="backup", database="memory", seen_by="look there"
)
DEAD = "h1/00000000/0/1/1"  # a process of another boot


@dataclass(slots=True)
class Time:
    """A clock the test moves."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, tzinfo=UTC))

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, monotonic=lambda: self.now.timestamp())


@dataclass(slots=True)
class Bell:
    """A doorbell that counts, or that is broken."""

    queue: str = "agent.h1"
    rung: int = 0
    broken: bool = False

    def ring(self, job: Job, runtime: Runtime) -> None:
        if self.broken:
            raise BrokerUnreachable("no broker")
        self.rung += 1
        runtime.jobs.mark_rung([job.id], now=runtime.site.clock.now())


@dataclass(slots=True)
class Shown:
    phases: list[Progress] = field(default_factory=list)

    def show(self, progress: Progress) -> None:
        self.phases.append(progress)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def runtime(site: Path, time: Time) -> Iterator[Runtime]:
    with open_runtime(load_config(site / "etc")) as opened:
        yield replace(opened, site=replace(opened.site, clock=time.clock()))


@pytest.fixture
def job(runtime: Runtime) -> Job:
    return runtime.jobs.add("create_backup", {}, now=runtime.site.clock.now(), max_attempts=2)


def follower(runtime: Runtime, bell: Bell) -> enqueue._Follower:
    return enqueue._Follower(runtime=runtime, bell=bell, shown=Shown())  # type: ignore[arg-type]


def current(runtime: Runtime, job: Job) -> Job:
    found = runtime.jobs.get(job.id)
    assert found is not None
    return found


def test_a_row_that_nobody_takes_is_rung_again_and_remarked_on_once(
    runtime: Runtime, job: Job, time: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    bell = Bell()
    watching = follower(runtime, bell)
    for _ in range(120):
        watching.look(current(runtime, job))
        time.pass_(1)
    assert capsys.readouterr().err.count("no worker has started it for 30 s, pool agent.h1 is gone") == 1
    assert 10 <= bell.rung <= 12


def test_a_row_whose_worker_died_is_rung_again_before_its_lease_ends(runtime: Runtime, job: Job, time: Time) -> None:
    bell = Bell()
    runtime.jobs.claim(job.id, DEAD, lease_seconds=3600, now=time.now)
    watching = follower(runtime, bell)
    for _ in range(12):
        watching.look(current(runtime, job))
        time.pass_(1)
    assert bell.rung == 1


def test_a_broken_bell_does_not_end_the_waiting(runtime: Runtime, job: Job, time: Time) -> None:
    watching = follower(runtime, Bell(broken=True))
    for _ in range(30):
        watching.look(current(runtime, job))
        time.pass_(1)
    assert current(runtime, job).state is JobState.QUEUED


def test_a_row_whose_attempts_are_used_up_ends_in_a_failure(runtime: Runtime, job: Job, time: Time) -> None:
    for _ in range(2):
        runtime.jobs.claim(job.id, DEAD, lease_seconds=1, now=time.now)
        time.pass_(2)
    with pytest.raises(JobFailed, match="2 of 2 attempts"):
        follow_job(job, runtime, work=WORK, bell=Bell(), shown=Shown())  # type: ignore[arg-type]


def test_a_failed_attempt_is_remarked_on_and_the_stored_error_is_raised_at_the_end(
    runtime: Runtime, job: Job, time: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = follower(runtime, Bell())
    busy = SourceBusy("memory.db: locked", hint="wait")
    claimed = runtime.jobs.claim(job.id, DEAD, lease_seconds=60, now=time.now)
    assert claimed is not None
    runtime.jobs.fail(job.id, claimed.token, busy, retry=True, now=time.now)
    for _ in range(3):
        watching.look(current(runtime, job))
    assert capsys.readouterr().err == "attempt 1 of 2: memory.db: locked; trying again\n"
    claimed = runtime.jobs.claim(job.id, DEAD, lease_seconds=60, now=time.now)
    assert claimed is not None
    runtime.jobs.fail(job.id, claimed.token, busy, retry=True, now=time.now)
    with pytest.raises(SourceBusy) as caught:
        follow_job(job, runtime, work=WORK, bell=Bell(), shown=Shown())  # type: ignore[arg-type]
    assert (caught.value.exit_code, caught.value.hint) == (4, "wait")


def test_progress_of_the_row_is_shown(runtime: Runtime, job: Job, time: Time) -> None:
    watching = follower(runtime, Bell())
    claimed = runtime.jobs.claim(job.id, DEAD, lease_seconds=60, now=time.now)
    assert claimed is not None
    progress = Progress(phase="store", n_bytes=5, total_bytes=10, detail="1/2 chunks")
    runtime.jobs.progress(job.id, claimed.token, progress=progress, now=time.now)
    watching.look(current(runtime, job))
    assert isinstance(watching.shown, Shown)
    assert watching.shown.phases == [progress]


def test_a_row_that_vanished_is_a_failure(runtime: Runtime, job: Job) -> None:
    runtime.jobs.cancel(job.id, reason="test", now=runtime.site.clock.now())
    runtime.jobs.forget(runtime.site.clock.now() + timedelta(days=1))
    with pytest.raises(JobFailed, match="its row is gone"):
        follow_job(job, runtime, work=WORK, bell=Bell(), shown=Shown())  # type: ignore[arg-type]


def test_a_row_the_broker_cannot_be_told_of_is_taken_back(runtime: Runtime) -> None:
    with pytest.raises(BrokerUnreachable):
        enqueue.enqueue_job(WORK, runtime, Bell(broken=True))  # type: ignore[arg-type]
    assert runtime.jobs.unfinished() == ()


def test_a_pool_of_another_host_or_that_fell_silent_serves_nobody_here(runtime: Runtime, time: Time) -> None:
    runtime.jobs.beat("agent", "agent.h1", host="h2", now=time.now)
    with pytest.raises(NoWorker):
        enqueue.find_queue(WORK, runtime)
    runtime.jobs.beat("agent", "agent.h1", host="h1", now=time.now)
    with pytest.raises(BrokerUnreachable):  # served, and no broker was ever started
        enqueue.find_queue(WORK, runtime)
    time.pass_(11)
    with pytest.raises(NoWorker):
        enqueue.find_queue(WORK, runtime)


def test_a_broker_that_stays_away_is_given_up_on_soon(runtime: Runtime, time: Time) -> None:
    runtime.jobs.beat("agent", "agent.h1", host="h1", now=time.now)
    began = monotonic()
    with pytest.raises(BrokerUnreachable):
        enqueue.find_queue(WORK, runtime)
    assert 1 < monotonic() - began < 60


def test_ctrl_c_while_following_says_that_the_job_goes_on(
    runtime: Runtime, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting(Shown):
        def show(self, progress: Progress) -> None:
            raise KeyboardInterrupt

    with pytest.raises(click.exceptions.Exit) as caught:
        follow_job(job, runtime, work=WORK, bell=Bell(), shown=Interrupting())  # type: ignore[arg-type]
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err == f"job {job.id} goes on; look there\n"
    assert current(runtime, job).state is JobState.QUEUED
