"""A worker app with small tasks of its own beside the product's: what they did is one line in `<state_dir>/ran`."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

from continuum_tasks.host.jobs import Jobs, open_jobs
from continuum_tasks.process import worker_id
from workers.app import app
from workers.settings import this_config

# Every test with a long task would otherwise wait for minutes.
app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "visibility_timeout": 6,
    "unacked_restore_interval": 1,
}


def note(text: str) -> None:
    with (this_config().state_dir / "ran").open("a") as file:
        file.write(f"{text}\n")


@app.task(name="test.plain")
def plain(label: str) -> None:
    """Work without a row: runs as often as it is delivered."""
    note(f"begin {label}")
    time.sleep(float(label.rpartition("-")[2]))
    note(f"end {label}")


@app.task(name="test.by_row")
def by_row(job_id: str) -> None:
    """Work that its row decides about."""
    jobs = open_jobs(this_config().state_dir / "metadata.db")
    try:
        job = jobs.claim(job_id, worker_id("h1"), lease_seconds=3600, now=datetime.now(UTC))
        if job is None:
            note(f"refused {job_id}")
        else:
            _work(jobs, job.id, job.token, job.args)
    finally:
        jobs.close()


def _work(jobs: Jobs, job_id: str, token: int, args: dict[str, Any]) -> None:
    note(f"begin {job_id} {token}")
    if args.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(args.get("seconds", 0))
    jobs.finish(job_id, token, {"token": token}, now=datetime.now(UTC))
    note(f"end {job_id} {token}")
