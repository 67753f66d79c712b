"""See one job through for capture: `python -m workers.job_runner JOB-ID KIND ARGUMENTS [--force]`, the arguments as JSON.

The job is a row. Where a pool serves its queue and the broker can be reached a worker does it, else this process does; the
claim of the row sees to it that never both do. How it ended is in the row; what is printed is for people.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import click

from continuum_tasks import failpoints
from continuum_tasks.backup.create import check_admission
from continuum_tasks.errors import BrokerError, ConfigError, ContinuumError, JobFailed
from continuum_tasks.host.audit_trail import user
from continuum_tasks.host.job_kinds import (
    COMPACT_SEGMENTS,
    CREATE_BACKUP,
    PROVE_CAPTURE,
    CompactSegments,
    CreateBackup,
    JobKind,
    ProveCapture,
    decode_arguments,
    encode_arguments,
    kind_of,
)
from continuum_tasks.host.jobs import Job, JobState
from continuum_tasks.runtime import Runtime, open_runtime
from continuum_tasks.tasks.perform_row import RowReporter, claim_row, perform_row
from workers.settings import failpoints as wanted_failpoints
from workers.settings import this_config
from workers.signals import log_to_file

POLL_SECONDS = 0.2
QUIET_BEFORE_RING = timedelta(seconds=10)  # a worker that is there claims within a second, unless others keep it busy
ENDED = "the capture that needed it ended"

_log = logging.getLogger(__name__)


def see_through(runtime: Runtime, job_id: str, work: CreateBackup | CompactSegments | ProveCapture, *, force: bool) -> None:
    """Queue a job and have it done, by a worker or here. Raises the error it ended in, and Declined before it is queued."""
    if isinstance(work, CreateBackup) and not force:
        check_admission(runtime.config.database(work.database), work.storage, site=runtime.site)
    kind = kind_of(work)
    try:
        _queue(runtime, job_id, work, kind)
        while not _is_done(runtime, job_id):
            if _is_nobodys(runtime, job_id, kind):
                _do(runtime, job_id, kind)
            else:
                time.sleep(POLL_SECONDS)
    except SystemExit:  # a worker that has it goes on
        runtime.jobs.cancel_queued(job_id, reason=ENDED, now=runtime.site.clock.now())
        raise


def _queue(runtime: Runtime, job_id: str, work: CreateBackup | CompactSegments | ProveCapture, kind: JobKind) -> None:
    runtime.jobs.add(
        kind.word,
        encode_arguments(replace(work, asked_by=user())),
        id=job_id,
        database=work.database,
        priority=kind.priority,
        max_attempts=runtime.config.backup.max_attempts,
        now=runtime.site.clock.now(),
    )


def _is_done(runtime: Runtime, job_id: str) -> bool:
    """Tell whether the job ended well. Raises its error."""
    job = runtime.jobs.get(job_id)
    if job is None:
        raise JobFailed(f"job {job_id}: its row is gone", hint="metadata.db was replaced while it ran")
    if job.state is JobState.FAILED:
        raise JobFailed(f"job {job_id}: failed") if job.error is None else job.error.to_error()
    return job.state is JobState.DONE


def _is_nobodys(runtime: Runtime, job_id: str, kind: JobKind) -> bool:
    """Tell whether the job is there to be claimed and no worker can be told of it."""
    now = runtime.site.clock.now()
    runtime.jobs.abandon(now)
    found = [job for job in runtime.jobs.due(now, not_rung_since=now - QUIET_BEFORE_RING) if job.id == job_id]
    return bool(found) and not _tell_worker(runtime, found[0], kind)


def _tell_worker(runtime: Runtime, job: Job, kind: JobKind) -> bool:
    queue, now = kind.queue(runtime.config.host), runtime.site.clock.now()
    if not runtime.jobs.is_served(queue, host=runtime.config.host, now=now):
        return False
    from continuum_tasks.tasks.client import broker_url_of, check_broker, client_app, ring

    try:
        check_broker(broker_url_of(runtime.config))
        with client_app(runtime.config) as app:
            ring(app, kind.task, job, queue=queue)
    except BrokerError as err:
        _log.warning("job %s: no worker can be told of it: %s", job.id, err.message)
        return False
    runtime.jobs.mark_rung([job.id], now=now)
    return True


def _do(runtime: Runtime, job_id: str, kind: JobKind) -> None:
    claimed = claim_row(runtime, job_id, kind=kind.word)
    if claimed is None:  # a worker was first
        return
    try:
        # Not tried again at once: capture asks anew after a pause.
        perform_row(claimed, runtime, fan=runtime.fan(), report=RowReporter(claimed, runtime).report, try_again=False)
    except SystemExit:
        runtime.jobs.cancel(job_id, reason=ENDED, now=runtime.site.clock.now())
        raise


def _stop(*_: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    """Do what the words say; a failure is one line, with its exit code."""
    job_id, word, arguments, *flags = sys.argv[1:]
    signal.signal(signal.SIGTERM, _stop)
    failpoints.arm(wanted_failpoints())
    kinds: dict[str, type[CreateBackup] | type[CompactSegments] | type[ProveCapture]] = {
        CREATE_BACKUP.word: CreateBackup,
        COMPACT_SEGMENTS.word: CompactSegments,
        PROVE_CAPTURE.word: ProveCapture,
    }
    work = decode_arguments(kinds[word], json.loads(arguments), row=f"job {job_id}: {word}")
    try:
        log_to_file(logging.INFO)
        with open_runtime(this_config()) as runtime:
            if runtime.state_trouble:  # nobody would ever find a row that is kept elsewhere
                raise ConfigError(runtime.state_trouble, hint="capture needs state_dir: free space there, or check its owner")
            see_through(runtime, job_id, work, force="--force" in flags)
    except ContinuumError as err:
        _log.warning("%s of database %s: %s: %s", word, work.database, type(err).__name__, err.message)
        click.echo(err.message, err=True)
        sys.exit(err.exit_code)


if __name__ == "__main__":
    main()
