"""Do what a claimed job row says: keep its lease, note it in the audit log, report progress, and end the row whatever comes."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.capture import compact
from continuum_tasks.errors import ContinuumError, StaleClaim
from continuum_tasks.host.job_kinds import JobArguments
from continuum_tasks.host.jobs import Job
from continuum_tasks.model import Progress
from continuum_tasks.process import worker_id
from continuum_tasks.repository.documents import to_json
from continuum_tasks.retention import expire
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks import audited_run
from continuum_tasks.tasks.executor import JobContext, act, decode_row

REPORT_SECONDS = 0.25

_log = logging.getLogger(__name__)


def claim_row(runtime: Runtime, job_id: str, *, kind: str) -> Job | None:
    """Claim a row of that kind. What the message says beside the id is never believed: kind and arguments are the row's."""
    job = runtime.jobs.get(job_id)
    if job is None or job.kind != kind:
        _log.warning("job %.80r: no %s of that id on this host", job_id, kind)
        return None
    settings = runtime.config.backup
    return runtime.jobs.claim(
        job_id, worker_id(runtime.config.host), lease_seconds=settings.lease_seconds, now=runtime.site.clock.now()
    )


def perform_row(job: Job, runtime: Runtime, *, fan: Fan, report: Callable[[Progress], object], try_again: bool = True) -> Any:
    """Do the work of a claimed row, keep its lease meanwhile, and end it.

    Returns the result as JSON. Raises what the action raises, after the row says so; with `try_again` transient errors queue
    the row again while attempts are left.
    """
    clock = runtime.site.clock
    try:
        with _lease_kept(runtime, job):
            result = to_json(_follow(job, runtime, fan=fan, report=report))
            runtime.jobs.finish(job.id, job.token, result, now=clock.now())
    except StaleClaim:
        raise
    except Exception as err:
        # The edge of the process: whatever it was, the row must say so now rather than when its lease ends.
        retry = try_again and isinstance(err, ContinuumError) and err.transient
        with contextlib.suppress(StaleClaim):
            runtime.jobs.fail(job.id, job.token, err, retry=retry, now=clock.now())
        raise
    return result


def _follow(job: Job, runtime: Runtime, *, fan: Fan, report: Callable[[Progress], object]) -> Any:
    work = decode_row(job)
    entry = audited_run.entry_of(work) if isinstance(work, JobArguments) else None
    steps = act(work, runtime, JobContext(fan=fan, check_lease=partial(runtime.jobs.check_current, job.id, job.token)))
    with contextlib.closing(audited_run.with_audit(steps, entry, site=runtime.site, tell=_log.warning)) as action:
        result = _reported(action, report)
    for text in _remarks(result):
        _log.warning(text)
    return result


def _reported(action: Generator[Progress, None, Any], report: Callable[[Progress], object]) -> Any:
    while True:
        try:
            progress = next(action)
        except StopIteration as stop:
            return stop.value
        report(progress)


def _remarks(result: Any) -> list[str]:
    """Return what a result says that somebody should know of, though the work is done."""
    match result:
        case compact.Compacted():
            return [
                f"object {key}: holds other commits than the merged segment that covers it; it stays" for key in result.foreign
            ]
        case expire.Applied() if result.stopped:
            return [f"{result.database} in {result.storage}: nothing expires: {result.stopped}"]
        case _:
            return []


@contextlib.contextmanager
def _lease_kept(runtime: Runtime, job: Job) -> Iterator[None]:
    """Renew the row's lease three times per period while the work lasts, however long one step of it takes."""
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(runtime, job, stop), name="job-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _renew(runtime: Runtime, job: Job, stop: threading.Event) -> None:
    seconds = runtime.config.backup.lease_seconds
    while not stop.wait(seconds / 3):
        try:
            runtime.jobs.renew(job.id, job.token, lease_seconds=seconds, now=runtime.site.clock.now())
        except ContinuumError as err:
            _log.warning("job %s: lease not renewed: %s", job.id, err.message)  # its holder learns at the commit point


class RowReporter:
    """Writes progress to a claimed row, a few times a second, and the notes that it asked for."""

    def __init__(self, job: Job, runtime: Runtime) -> None:
        self._job = job
        self._runtime = runtime
        self._phase = ""
        self._begun = self._last = 0.0

    def report(self, progress: Progress) -> dict[str, Any] | None:
        """Return what was written, with how fast the phase goes; None where the last report is too young."""
        clock = self._runtime.site.clock
        at = clock.monotonic()
        if progress.note and self._job.args.get("debug"):
            self._runtime.jobs.note(self._job.id, progress.note)
            _log.info("job %s: %s: %s", self._job.id, progress.phase, progress.note)
        if progress.phase != self._phase:
            self._phase, self._begun = progress.phase, at
        elif at - self._last < REPORT_SECONDS:
            return None
        self._last = at
        self._runtime.jobs.progress(self._job.id, self._job.token, progress=progress, now=clock.now())
        rate = progress.n_bytes / (at - self._begun) if at > self._begun else 0.0
        return {**to_json(progress), "rate_bytes_per_second": round(rate), "job_id": self._job.id}
