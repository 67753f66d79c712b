"""Where work is done: by a worker of this host that a job row and the broker reach, else in this process."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from continuum_tasks.cli.frame import enqueue
from continuum_tasks.cli.frame.context import cli_context, local_forced
from continuum_tasks.cli.frame.enqueue import Subject
from continuum_tasks.cli.frame.output import print_document, print_text, remark, warn
from continuum_tasks.cli.frame.progress import display
from continuum_tasks.errors import BrokerError, BrokerUnreachable, ContinuumError, NoWorker, UsageError
from continuum_tasks.host.audit_trail import AuditEntry, user
from continuum_tasks.host.job_kinds import encode_arguments
from continuum_tasks.model import Progress
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks import audited_run, executor

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """Work that was handed over and not waited for."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionMode:
    """`local`: True = here, False = by a worker or not at all, None = by a worker if there is one; `steps`: show each."""

    local: bool | None
    wait: bool = True
    steps: bool = False


def local_option(command: Command) -> Command:
    """Give a command `--local/--no-local`."""
    text = "Work in this process / only by a worker [default: by a worker if one serves this host; CONTINUUM_LOCAL=1: --local]."
    return click.option("--local/--no-local", "local", default=None, help=text)(command)


def execution_mode(local: bool | None, *, wait: bool = True) -> ExecutionMode:
    """Read how work is to be done from the options and the environment. Raises ConfigError, UsageError."""
    if local and not wait:
        raise UsageError("--local and --no-wait exclude each other", hint="use only one of them")
    return ExecutionMode(local=local_forced(local), wait=wait)


def execute(work: Subject, runtime: Runtime, how: ExecutionMode) -> Any:
    """Do the work and return its result, or `Queued`.

    Raises what the action raises, BrokerUnsafe, and NoWorker where only a worker was wanted and none can be reached.
    """
    if how.local:
        return _execute_locally(work, runtime, how)
    try:
        bell = enqueue.find_queue(work, runtime)
    except (NoWorker, BrokerUnreachable) as err:
        return _without(work, runtime, how, err)
    with closing(bell.app):
        try:
            job = enqueue.enqueue_job(work, runtime, bell)
        except BrokerUnreachable as err:
            return _without(work, runtime, how, err)
        if not how.wait:
            return Queued(job_id=job.id)
        with display(work.title, steps=how.steps) as shown:
            result = enqueue.follow_job(job, runtime, work=work, bell=bell, shown=shown)
        return executor.decode_result(work.arguments, result)


def _without(work: Subject, runtime: Runtime, how: ExecutionMode, err: BrokerError) -> Any:
    """Do without a worker. Raises NoWorker where only a worker was wanted."""
    if how.local is False:
        raise NoWorker(err.message, hint="start workers with `continuum up`, or run it without --no-local") from err
    remark(f"no worker is reachable ({err.message}): working in this process")
    return _execute_locally(work, runtime, how)


def _execute_locally(work: Subject, runtime: Runtime, how: ExecutionMode) -> Any:
    entry = audited_run.entry_of(work.arguments, by=user())
    try:
        steps = executor.act(work.arguments, runtime, executor.local_context(runtime))
        return run_locally(with_command_audit(steps, entry, runtime), title=work.title, steps=how.steps)
    except ContinuumError as err:
        keep_local_failure(work, runtime, err)
        raise


def with_command_audit(
    action: Generator[Progress, None, Any], entry: AuditEntry | None, runtime: Runtime
) -> Generator[Progress, None, Any]:
    """Have the audit log say when an action begins in this process, and how it ends."""
    return audited_run.with_audit(action, entry, site=runtime.site, tell=warn)


def run_locally(action: Generator[Progress, None, Any], *, title: str, steps: bool = False) -> Any:
    """Run an action in this process, showing its progress (with `steps` its notes too), and return its result."""
    with display(title, steps=steps) as shown:
        try:
            while True:
                shown.show(next(action))
        except StopIteration as stop:
            return stop.value
        finally:
            action.close()


def say_queued(done: Queued) -> None:
    """Say that work was handed over."""
    if cli_context().as_json:
        print_document({"job_id": done.job_id, "state": "queued"})
    else:
        print_text(f"queued: {done.job_id}")


def keep_local_failure(work: Subject, runtime: Runtime, error: ContinuumError) -> None:
    """Keep one failure. What cannot be kept is left: the error itself is about to be said."""
    now = datetime.now(UTC)
    with contextlib.suppress(ContinuumError):
        args = encode_arguments(work.arguments)
        runtime.jobs.note_failed(work.kind.word, args, error, database=work.database, now=now)
    hint = f" ({error.hint})" if error.hint else ""
    event = f"{work.kind.word} {work.database}".strip() + f": {type(error).__name__}: {error.message}{hint}"
    _log(runtime.config.log_file, event, now=now)


def _log(path: Path, event: str, *, now: datetime) -> None:
    """Append to a log that is there: one that this user made could be one that the workers cannot write."""
    line = {
        "at": now.isoformat(timespec="milliseconds"),
        "level": "error",
        "process": os.getpid(),
        "logger": "continuum_tasks.cli",
        "event": event,
    }
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")
