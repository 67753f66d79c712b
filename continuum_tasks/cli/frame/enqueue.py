"""Hand work to a worker of this host and follow it: a job row says what, the broker rings, the row tells how it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from continuum_tasks.cli.frame.output import remark
from continuum_tasks.cli.frame.progress import Display
from continuum_tasks.errors import BrokerUnreachable, BrokerUnsafe, JobFailed, NoWorker
from continuum_tasks.host.audit_trail import user
from continuum_tasks.host.job_kinds import JobArguments, JobKind, encode_arguments, kind_of
from continuum_tasks.host.jobs import Job, JobState, JsonValue
from continuum_tasks.model import Progress
from continuum_tasks.runtime import Runtime

if TYPE_CHECKING:
    from celery import Celery

POLL_SECONDS = 0.1
LOOK_SECONDS = 1.0
IDLE_SECONDS = 30.0  # a worker that is there claims within a second, unless others keep it busy
QUIET_BEFORE_RING = timedelta(seconds=10)  # the reconciler looks every 15 s; a follower need not be faster by much
BROKER_RETURNS_SECONDS = 1.5  # `continuum up` starts a broker that ended again after 0.2 s
STOPPED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One piece of work: what it says and is called, and where its outcome can be seen without waiting for it.

    `priority` None = that of its kind.
    """

    arguments: JobArguments
    title: str
    database: str
    seen_by: str
    priority: int | None = None

    @property
    def kind(self) -> JobKind:
        return kind_of(self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueNotifier:
    """The queue that serves a row, and the app that can ring it."""

    app: Celery
    kind: JobKind
    queue: str

    def ring(self, job: Job, runtime: Runtime) -> None:
        """Tell a worker to look at the row. Raises BrokerUnreachable; the row stays due either way."""
        from continuum_tasks.tasks.client import ring

        ring(self.app, self.kind.task, job, queue=self.queue)
        runtime.jobs.mark_rung([job.id], now=runtime.site.clock.now())


def find_queue(work: Subject, runtime: Runtime) -> QueueNotifier:
    """Find the queue that serves such work on this host.

    Raises NoWorker when no pool reports from it, BrokerUnreachable, or BrokerUnsafe when the broker may drop what is queued.
    """
    config = runtime.config
    queue = work.kind.queue(config.host)
    is_served = runtime.jobs.is_served(queue, host=config.host, now=runtime.site.clock.now())
    if is_served or config.broker.url is not None:
        _check_broker(runtime, patience_seconds=BROKER_RETURNS_SECONDS if is_served else 0.0)
    if not is_served:
        raise NoWorker(f"no pool serves queue {queue} on this host")
    from continuum_tasks.tasks.client import client_app

    return QueueNotifier(app=client_app(config), kind=work.kind, queue=queue)


def enqueue_job(work: Subject, runtime: Runtime, bell: QueueNotifier) -> Job:
    """Queue the work and ring. Raises BrokerUnreachable; the row is then taken back."""
    jobs, now = runtime.jobs, runtime.site.clock.now
    attempts = runtime.config.backup.max_attempts
    args = encode_arguments(replace(work.arguments, asked_by=user()))
    priority = work.kind.priority if work.priority is None else work.priority
    job = jobs.add(work.kind.word, args, now=now(), database=work.database, priority=priority, max_attempts=attempts)
    try:
        bell.ring(job, runtime)
    except BrokerUnreachable:
        jobs.cancel(job.id, reason="the broker could not be notified", now=now())
        raise
    return job


def follow_job(job: Job, runtime: Runtime, *, work: Subject, bell: QueueNotifier, shown: Display) -> JsonValue:
    """Wait for the end of a job and return its result. Raises the error it ended in; Ctrl-C ends the waiting, not the job."""
    follower = _Follower(runtime=runtime, bell=bell, shown=shown)
    try:
        while True:
            found = runtime.jobs.get(job.id)
            follower.tell(found or job)  # what was noted before the row ended is there by now
            if found is None:
                raise JobFailed(f"job {job.id}: its row is gone", hint="metadata.db was replaced while it ran; start it again")
            if found.state is JobState.DONE:
                return found.result
            if found.state is JobState.FAILED:
                raise JobFailed(f"job {job.id}: failed") if found.error is None else found.error.to_error()
            follower.look(found)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt as err:
        remark(f"job {job.id} goes on; {work.seen_by}")
        raise click.exceptions.Exit(STOPPED) from err


@dataclass(slots=True, kw_only=True)
class _Follower:
    """What was said already, and when the row was last looked after."""

    runtime: Runtime
    bell: QueueNotifier
    shown: Display
    queued_since: float | None = None
    looked_at: float = 0.0
    told_idle: bool = False
    told_attempts: set[int] = field(default_factory=set)
    told_note: int = 0

    def tell(self, job: Job) -> None:
        """Show the notes of a job that was asked to make them."""
        if job.args.get("debug"):
            for number, text in self.runtime.jobs.notes(job.id, after=self.told_note):
                self.told_note = number
                self.shown.show(Progress(phase=job.phase or "queued", note=text))

    def look(self, job: Job) -> None:
        at = self.runtime.site.clock.monotonic()
        if job.state is JobState.QUEUED:
            self._wait(job, at)
        else:
            self.queued_since = None
        if job.phase and job.state is JobState.RUNNING:
            shown = Progress(phase=job.phase, n_bytes=job.n_bytes, total_bytes=job.total_bytes, detail=job.detail)
            self.shown.show(shown)
        if at - self.looked_at >= LOOK_SECONDS:
            self.looked_at = at
            self._tend(job)

    def _wait(self, job: Job, at: float) -> None:
        if job.error is not None and job.attempts not in self.told_attempts:
            self.told_attempts.add(job.attempts)
            remark(f"attempt {job.attempts} of {job.max_attempts}: {job.error.message}; trying again")
        self.queued_since = at if self.queued_since is None else self.queued_since
        self.shown.show(Progress(phase="queued"))
        if at - self.queued_since >= IDLE_SECONDS and not self.told_idle:
            self.told_idle = True
            host, now = self.runtime.config.host, self.runtime.site.clock.now()
            state = "is busy" if self.runtime.jobs.is_served(self.bell.queue, host=host, now=now) else "is gone"
            remark(f"job {job.id}: no worker has started it for {IDLE_SECONDS:.0f} s, pool {self.bell.queue} {state}; waiting")

    def _tend(self, job: Job) -> None:
        """Ring again for a row that was lost on the way or whose worker died; end one whose attempts are used up."""
        now = self.runtime.site.clock.now()
        self.runtime.jobs.abandon(now)
        if now - job.updated_at < QUIET_BEFORE_RING:
            return
        if job.id in {due.id for due in self.runtime.jobs.due(now, not_rung_since=now - QUIET_BEFORE_RING)}:
            try:
                self.bell.ring(job, self.runtime)
            except BrokerUnreachable:
                return  # it stays due: the next look rings again, and so does the reconciler


def _check_broker(runtime: Runtime, *, patience_seconds: float) -> None:
    from continuum_tasks.tasks.client import broker_url_of, check_broker

    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return check_broker(broker_url_of(runtime.config))
        except BrokerUnsafe as err:
            raise BrokerUnsafe(err.message, hint=f"{err.hint}; --local works without it") from err
        except BrokerUnreachable:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)
