"""What every task does around its action: open the runtime, claim the row, do it, report to Celery as well."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from functools import cache, partial
from pathlib import Path
from typing import Any

from celery import Task
from kombu.exceptions import OperationalError
from redis import RedisError

from continuum_tasks.assembly.fan_out import ByRows, Fan
from continuum_tasks.config import Config, load_config
from continuum_tasks.errors import BrokerUnreachable, ConfigError, ContinuumError
from continuum_tasks.host.job_kinds import JOB_KINDS, JobKind
from continuum_tasks.host.jobs import Job
from continuum_tasks.model import Progress
from continuum_tasks.process import worker_id
from continuum_tasks.runtime import Runtime, open_runtime
from continuum_tasks.tasks.client import ring
from continuum_tasks.tasks.perform_row import RowReporter, claim_row, perform_row

_log = logging.getLogger(__name__)


def perform(task: Task[Any, Any], job_id: str, *, kind: JobKind) -> Any:
    """Do the work of one row, once: a row that is unknown, of another kind, ended or held by another is left alone.

    Delivered twice, at once or later, a message changes nothing. Returns the action's result as JSON, or None when there was
    nothing to do. Raises what the action raises.
    """
    runtime = runtime_of(task)
    job = claim_row(runtime, job_id, kind=kind.word)
    if job is None:
        return None
    return perform_row(job, runtime, fan=_fan(task, runtime, job), report=_Reporter(task, runtime, job).report)


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
    kind = JOB_KINDS.get(job.kind)
    if kind is None:  # of another version that used this metadata.db
        _log.warning("job %s: nobody does %s here", job.id, job.kind)
        return False
    try:
        ring(app, kind.task, job, queue=kind.queue(config.host))
    except BrokerUnreachable as err:
        _log.warning("job %s: not rung: %s", job.id, err.message)
        return False
    return True


class _Reporter:
    """Reports progress to the row (for the command line), and what was reported there to the result backend and Flower."""

    def __init__(self, task: Task[Any, Any], runtime: Runtime, job: Job) -> None:
        self._task = task
        self._row = RowReporter(job, runtime)

    def report(self, progress: Progress) -> None:
        meta = self._row.report(progress)
        if meta is None:
            return
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
