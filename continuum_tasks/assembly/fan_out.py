"""Run the units of a layer: in threads of this process, or as job rows that `transfer` workers claim.

Units are small values (`SealUnit`, `FetchUnit`); results come back in the order they finish, with their unit's number.
The broker only rings: a row nobody claims in time, or whose worker died, is claimed and run right here, so a run ends
even when the broker or every transfer worker is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from continuum_tasks.clock import Clock
from continuum_tasks.errors import ContinuumError, JobFailed, StaleClaim, error_from
from continuum_tasks.host.jobs import Job, Jobs
from continuum_tasks.repository.documents import from_json, to_json

PATIENCE_SECONDS = 2.0  # a transfer worker that is there claims within 0.1 s
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitKind:
    """How to run one kind of unit, and the types of unit and result."""

    run: Callable[[Any], Any]
    unit: type
    result: type


class Fan(Protocol):
    """Run units of one kind; yields (number of the unit, result) as they finish. Raises the first failure."""

    def run(self, kind: str, units: Sequence[Any]) -> Iterator[tuple[int, Any]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InThreads:
    """Run units in `n_threads` threads here; codecs, ciphers and disks work without the GIL."""

    works: Mapping[str, UnitKind]
    n_threads: int

    def run(self, kind: str, units: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        waiting = enumerate(units)
        with ThreadPoolExecutor(self.n_threads, thread_name_prefix=kind) as pool:
            running: dict[Future[Any], int] = {}
            try:
                while True:
                    for index, unit in islice(waiting, self.n_threads + 1 - len(running)):
                        running[pool.submit(self.works[kind].run, unit)] = index
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        yield running.pop(future), future.result()
            finally:
                pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRows:
    """Run units as child rows of a claimed job, at most `window` at a time; `ring` tells a worker about a row."""

    jobs: Jobs
    parent: Job
    ring: Callable[[Job], object]
    works: Mapping[str, UnitKind]
    window: int
    worker: str
    lease_seconds: float
    clock: Clock
    pause: Callable[[float], object]

    def run(self, kind: str, units: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        if len(units) == 1:  # what fits one chunk never fans out
            yield 0, self.works[kind].run(units[0])
            return
        running: dict[str, tuple[int, float]] = {}
        try:
            yield from self._run_rows(kind, units, running)
        finally:
            self._give_up(running)

    def _run_rows(self, kind: str, units: Sequence[Any], running: dict[str, tuple[int, float]]) -> Iterator[tuple[int, Any]]:
        waiting = enumerate(units)
        while True:
            for index, unit in islice(waiting, self.window - len(running)):
                running[self._begin(kind, index, unit)] = (index, self.clock.monotonic())
            if not running:
                return
            finished = [job for job_id in running if (job := self._ended(kind, job_id, running[job_id][1])) is not None]
            for job in finished:
                index, _ = running.pop(job.id)
                yield index, from_json(self.works[kind].result, job.result)
            if not finished:
                self.pause(POLL_SECONDS)

    def _give_up(self, job_ids: Iterable[str]) -> None:
        """End the rows nobody waits for any more: who claims one later would work for a run that has failed."""
        with contextlib.suppress(ContinuumError):  # how the run ended is what counts
            for job_id in job_ids:
                self.jobs.cancel(job_id, reason=f"job {self.parent.id} ended before it", now=self.clock.now())

    def _begin(self, kind: str, index: int, unit: Any) -> str:
        job_id = f"{self.parent.id}.{self.parent.token}.{kind}.{index}"
        job = self.jobs.add(
            kind,
            to_json(unit),
            id=job_id,
            database=self.parent.database,
            priority=self.parent.priority,
            parent_id=self.parent.id,
            max_attempts=self.parent.max_attempts,
            now=self.clock.now(),
        )
        self.ring(job)
        return job_id

    def _ended(self, kind: str, job_id: str, since: float) -> Job | None:
        job = self.jobs.get(job_id)
        if job is None:
            raise JobFailed(f"job {job_id}: its row is gone", hint="metadata.db was replaced while work ran; start again")
        if job.state == "done":
            return job
        if job.state == "failed":
            error = job.error
            raise (
                JobFailed(f"job {job_id}: failed", hint="")
                if error is None
                else error_from(error.name, error.message, error.hint)
            )
        if self.clock.monotonic() - since > PATIENCE_SECONDS:
            return self._run_here(kind, job_id)
        return None

    def _run_here(self, kind: str, job_id: str) -> Job | None:
        claimed = self.jobs.claim(job_id, worker=self.worker, lease_seconds=self.lease_seconds, now=self.clock.now())
        if claimed is not None:
            with contextlib.suppress(StaleClaim):  # the unit's claim, not the parent's: whoever took it over ends the row
                self._work(kind, claimed)
                return self.jobs.get(job_id)
        self.jobs.abandon(self.clock.now())  # a unit that killed every worker it may have: the next look finds it failed
        return None

    def _work(self, kind: str, claimed: Job) -> None:
        work = self.works[kind]
        try:
            result = work.run(from_json(work.unit, claimed.args))
        except ContinuumError as err:
            self.jobs.fail(claimed.id, claimed.token, err, retry=False, now=self.clock.now())
            raise
        self.jobs.finish(claimed.id, claimed.token, to_json(result), now=self.clock.now())
