"""Have the jobs that capture needs done by a process of their own, and read from its row how each ended."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.backup.create import Finished
from continuum_tasks.capture.compare_live import Proven
from continuum_tasks.capture.follow_ups import JobEnd
from continuum_tasks.capture.pins.client import ending_with
from continuum_tasks.capture.state.environment import make_private_directory
from continuum_tasks.errors import ContinuumError
from continuum_tasks.host.job_kinds import JobArguments, encode_arguments, kind_of
from continuum_tasks.host.jobs import Job, JobState, open_jobs
from continuum_tasks.tasks.executor import decode_result

TIMEOUT_SECONDS = 6 * 3600.0
LOG = "follow-up.log"


@dataclass(slots=True, kw_only=True)
class _Running:
    job_id: str
    work: JobArguments
    process: subprocess.Popen[bytes]
    begun: float


class ChildRunner:
    """One `workers.job_runner` at a time for one database; what it prints is kept in `directory` until the next.

    The child queues the row too: then this process never waits for the lock of `metadata.db`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        metadata: Path,
        environment: Mapping[str, str],
        monotonic: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._log = make_private_directory(directory) / LOG
        self._metadata = metadata
        self._environment = environment
        self._monotonic = monotonic
        self._random_bytes = random_bytes
        self._running: _Running | None = None

    @property
    def busy(self) -> bool:
        return self._running is not None

    def start(self, work: JobArguments, *, force: bool) -> None:
        """Start the child. It ends with this process, however that ends."""
        job_id = f"job-{self._random_bytes(8).hex()}"
        words = (job_id, kind_of(work).word, json.dumps(encode_arguments(work)), *(("--force",) if force else ()))
        with self._log.open("wb") as log:
            self._log.chmod(0o600)
            process = subprocess.Popen(  # noqa: S603 (our own module)
                # -P: a `workers` package in the directory this was started from is not ours.
                (sys.executable, "-P", "-m", "workers.job_runner", *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self._environment),
                start_new_session=True,
                preexec_fn=ending_with(),
            )
        self._running = _Running(job_id=job_id, work=work, process=process, begun=self._monotonic())

    def ended(self) -> JobEnd | None:
        """Return how the job ended, as its row says, once the child has ended; a child that takes too long is killed."""
        running = self._running
        if running is None:
            return None
        code = running.process.poll()
        if code is None and self._monotonic() - running.begun > TIMEOUT_SECONDS:
            running.process.kill()
            code = running.process.wait()
        if code is None:
            return None
        self._running = None
        return self._end(running, code)

    def close(self) -> None:
        """End the child; a worker that has the job goes on."""
        if self._running is not None:
            self._running.process.terminate()
            self._running.process.wait()
            self._running = None

    def _end(self, running: _Running, code: int) -> JobEnd:
        try:
            with closing(open_jobs(self._metadata)) as jobs:
                job = jobs.get(running.job_id)
        except ContinuumError as err:
            return JobEnd(error=err.message)
        if job is None or job.state in (JobState.QUEUED, JobState.RUNNING):  # it ended before its job did
            return JobEnd(error=self._last_line() or f"exit code {code}")
        if job.state is JobState.FAILED:
            return JobEnd(error=job.error.message if job.error is not None else f"exit code {code}")
        return _done(running.work, job)

    def _last_line(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _done(work: JobArguments, job: Job) -> JobEnd:
    try:
        result = decode_result(work, job.result)
    except (ValueError, TypeError, KeyError) as err:
        return JobEnd(error=f"job {job.id}: its result cannot be read, another version made it ({err})")
    if isinstance(result, Proven):
        return JobEnd(is_same=not result.differing)
    return JobEnd(backup=result.backup if isinstance(result, Finished) else None)
