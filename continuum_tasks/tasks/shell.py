"""What every task does around its action: open the runtime, claim the row, keep the lease, report progress, end the row."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from celery import Task
from kombu.exceptions import OperationalError
from redis import RedisError

from continuum_tasks.assembly.fan_out import ByRows, Fan
from continuum_tasks.config import Config, load_config
from continuum_tasks.errors import BrokerUnreachable, ConfigError, ContinuumError, NewerFormat, StaleClaim
from continuum_tasks.host import routing
from continuum_tasks.host.audit_trail import ASKED_BY
from continuum_tasks.host.jobs import Job
from continuum_tasks.model import Progress
from continuum_tasks.process import worker_id
from continuum_tasks.repository.documents import to_json, unknown_fields
from continuum_tasks.runtime import Runtime, open_runtime
from continuum_tasks.tasks import audited_run
from continuum_tasks.tasks.client import ring

REPORT_SECONDS = 0.25
KINDS = {
    "create_backup": routing.CREATE_BACKUP,
    "restore_backup": routing.RESTORE_BACKUP,
    "verify_backup": routing.VERIFY_BACKUP,
    "seal_chunk": routing.SEAL_CHUNK,
    "fetch_chunk": routing.FETCH_CHUNK,
    "run_drill": routing.RUN_DRILL,
    "test_restore": routing.TEST_RESTORE,
    "apply_retention": routing.APPLY_RETENTION,
}
ARGUMENTS: Mapping[str, frozenset[str]] = {
    "create_backup": frozenset({"database", "strategy", "storage", "debug"}),
    "restore_backup": frozenset({"backup_id", "storage", "target", "overwrite", "verify", "region", "commit", "timeline"}),
    "verify_backup": frozenset({"backup_id", "storage", "level", "each_link"}),
    "run_drill": frozenset({"backup_id", "storage"}),
    "test_restore": frozenset({"backup_id", "storage"}),
    "apply_retention": frozenset({"database", "storage", "aggressive", "by"}),
    "compact_segments": frozenset({"database", "storage"}),
}
"""What each kind of row may say, beside who asked for it. A task has a default for what an older version left out."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """What an action gets from a task: the claimed row, a fan-out over the transfer pool, the check before its commit."""

    job: Job
    fan: Fan
    check_lease: Callable[[], None]


Act = Callable[[Runtime, JobContext], Generator[Progress, None, Any]]


def perform(task: Task[Any, Any], job_id: str, *, kind: str, act: Act) -> Any:
    """Do the work of one row, once: a row that is unknown, of another kind, ended or held by another is left alone.

    Returns the action's result as JSON, or None when there was nothing to do. Raises what the action raises, after the
    row says so; transient errors queue the row again while attempts are left.
    """
    runtime = runtime_of(task)
    job = claim_row(runtime, job_id, kind=kind)
    if job is None:
        return None
    clock = runtime.site.clock
    try:
        with lease_kept(runtime, job):
            _check_arguments(runtime, job)
            result = to_json(_follow(task, runtime, job, act=act))
            runtime.jobs.finish(job.id, job.token, result, now=clock.now())
    except StaleClaim:
        raise
    except Exception as err:
        # The edge of the process: whatever it was, the row must say so now rather than when its lease ends.
        retry = isinstance(err, ContinuumError) and err.transient
        with contextlib.suppress(StaleClaim):
            runtime.jobs.fail(job.id, job.token, err, retry=retry, now=clock.now())
        raise
    return result


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


def _check_arguments(runtime: Runtime, job: Job) -> None:
    """Raise NewerFormat for an argument that is not known here: without it other work would be done than was asked for."""
    works = runtime.works()
    if job.kind in works:
        unknown = list(unknown_fields(works[job.kind].unit, job.args))
    else:
        known = ARGUMENTS.get(job.kind)
        unknown = [] if known is None else sorted(job.args.keys() - known - {ASKED_BY})
    if unknown:
        raise NewerFormat(
            f"job {job.id}: {job.kind}: its argument {unknown[0]!r} was written by a newer version",
            hint="upgrade continuum where the workers of this host run, and start them again",
        )


@contextlib.contextmanager
def lease_kept(runtime: Runtime, job: Job) -> Iterator[None]:
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


def _follow(task: Task[Any, Any], runtime: Runtime, job: Job, *, act: Act) -> Any:
    check_lease = partial(runtime.jobs.check_current, job.id, job.token)
    asked = act(runtime, JobContext(job=job, fan=_fan(task, runtime, job), check_lease=check_lease))
    deed = audited_run.of_row(job.kind, job.args)
    reporter = _Reporter(task, runtime, job)
    with contextlib.closing(audited_run.with_audit(asked, deed, site=runtime.site, tell=_log.warning)) as action:
        while True:
            try:
                progress = next(action)
            except StopIteration as stop:
                return stop.value
            reporter.report(progress)


def _fan(task: Task[Any, Any], runtime: Runtime, job: Job) -> Fan:
    settings = runtime.config.backup
    return ByRows(
        jobs=runtime.jobs,
        parent=job,
        ring=partial(ring_row, task.app, runtime.config),
        works=runtime.works(),
        window=settings.max_concurrent_uploads,
        worker=worker_id(runtime.config.host),
        lease_seconds=settings.lease_seconds,
        clock=runtime.site.clock,
        pause=threading.Event().wait,
    )


def ring_row(app: Any, config: Config, job: Job) -> bool:
    """Ring for a row where its kind is served. A broker that is away costs nothing but time: the row stays due."""
    if job.kind not in KINDS:  # of another version that used this metadata.db
        _log.warning("job %s: nobody does %s here", job.id, job.kind)
        return False
    route = routing.route(KINDS[job.kind], host=config.host)
    try:
        ring(app, route.task, job, queue=route.queue)
    except BrokerUnreachable as err:
        _log.warning("job %s: not rung: %s", job.id, err.message)
        return False
    return True


class _Reporter:
    """Reports progress to the row (for the command line), the result backend and Flower, a few times a second."""

    def __init__(self, task: Task[Any, Any], runtime: Runtime, job: Job) -> None:
        self._task = task
        self._runtime = runtime
        self._job = job
        self._phase = ""
        self._begun = self._last = 0.0

    def report(self, progress: Progress) -> None:
        clock = self._runtime.site.clock
        at = clock.monotonic()
        if progress.note and self._job.args.get("debug"):
            self._runtime.jobs.note(self._job.id, progress.note)
            _log.info("job %s: %s: %s", self._job.id, progress.phase, progress.note)
        if progress.phase != self._phase:
            self._phase, self._begun = progress.phase, at
        elif at - self._last < REPORT_SECONDS:
            return
        self._last = at
        self._runtime.jobs.progress(self._job.id, self._job.token, progress=progress, now=clock.now())
        rate = progress.n_bytes / (at - self._begun) if at > self._begun else 0.0
        meta = {**to_json(progress), "rate_bytes_per_second": round(rate), "job_id": self._job.id}
        share = f" ({100 * progress.n_bytes // progress.total_bytes} %)" if progress.total_bytes else ""
        with contextlib.suppress(RedisError, OperationalError, OSError):  # Redis is losable, the work is not
            self._task.update_state(state="PROGRESS", meta=meta)
            self._task.send_event("task-progress", result=f"{progress.phase} {progress.detail}{share}".strip())


def runtime_of(task: Task[Any, Any]) -> Runtime:
    """Return this process's runtime, opened at its first task and again whenever a .conf file or a key changed."""
    directory = Path(task.app.conf["continuum_config_directory"])
    return _opened(os.getpid(), directory, _stamp(directory))


@cache
def _opened(pid: int, directory: Path, stamp: tuple[int, ...]) -> Runtime:
    stack = contextlib.ExitStack()  # lives as long as the process
    runtime = stack.enter_context(open_runtime(load_config(directory)))
    if runtime.state_trouble:  # a command may do without its records; here nothing would ever be claimed again
        stack.close()
        raise ConfigError(runtime.state_trouble, hint="workers need state_dir: free space there, or check its owner")
    return runtime


def _stamp(directory: Path) -> tuple[int, ...]:
    paths = [directory / name for name in ("backup.conf", "storage.conf", "retention.conf", "keys")]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


class LoggedTask(Task):  # type: ignore[type-arg]  # takes its arguments in stubs alone
    """A task whose documented errors are no defects: only others are logged as unexpected, with where they came from."""

    abstract = True
    throws = (ContinuumError,)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Log an error of ours; Celery logs the others."""
        if isinstance(exc, ContinuumError):
            of = f" {args[0]}" if args else ""
            hint = f" ({exc.hint})" if exc.hint else ""
            name = str(self.name).removeprefix("continuum.")
            _log.error("%s%s: %s: %s%s", name, of, type(exc).__name__, exc.message, hint)
