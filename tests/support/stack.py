"""A small host's broker, workers and whole stack as real processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from continuum_tasks.config import Config, load_config
from continuum_tasks.errors import BrokerUnreachable, BrokerUnsafe
from continuum_tasks.host.jobs import Job, JobState, Pool, open_jobs
from continuum_tasks.tasks.client import broker_url_of, check_broker
from tests.support.processes import ROOT, environment, until
from workers import broker


def write_config_files(directory: Path, *, url: str = "") -> Config:
    """Write the three files of a small host named h1 and load them."""
    directory.mkdir(parents=True)
    (directory / "backup.conf").write_text(
        f"[continuum]\nhost = h1\n\n[broker]\nurl = {url}\n\n[workers]\nagent = 1\ntransfer = 2\n\n"
        f"[database:main]\npath = {directory}/memory.db\n"
    )
    (directory / "storage.conf").write_text(f"[storage:local]\ntype = local\npath = {directory}/store\n")
    (directory / "retention.conf").write_text("")
    return load_config(directory)


def a_job(job_id: str, *, priority: int) -> Job:
    """Make a row that is in no file: a ring needs its id and priority, whether or not the row is there."""
    now = datetime.now(UTC)
    return Job(
        **{"id": job_id, "kind": "test", "database": "", "args": {"not": "sent"}, "state": JobState.QUEUED},
        **{"priority": priority, "attempts": 0, "max_attempts": 3, "token": 0, "lease_until": None, "claimed_by": ""},
        **{"parent_id": None, "phase": "", "detail": "", "n_bytes": 0, "total_bytes": 0, "result": None, "error": None},
        **{"rung_at": None, "created_at": now, "updated_at": now},
    )


def live_pools(config: Config) -> dict[str, Pool]:
    """Return the pools that report now, by name."""
    jobs = open_jobs(config.state_dir / "metadata.db")
    try:
        return {p.pool: p for p in jobs.pools(datetime.now(UTC)) if p.alive}
    finally:
        jobs.close()


@contextmanager
def server(config: Config, *lines: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the embedded broker alone, with more configuration lines."""
    with broker.only_stack(config.state_dir):
        path = broker.prepare_broker(config.state_dir)
        path.write_text(path.read_text() + "\n".join(lines) + "\n")
        process = subprocess.Popen([broker.find_server(), str(path)], stdout=subprocess.DEVNULL)
        try:
            assert until(lambda: _reachable(config))
            yield process
        finally:
            process.kill()
            process.wait()


def _reachable(config: Config) -> bool:
    try:
        check_broker(broker_url_of(config))
    except BrokerUnreachable:
        return False
    except BrokerUnsafe:
        return True
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    process: subprocess.Popen[str]
    lines: list[str]

    def family(self) -> list[psutil.Process]:
        """Return every process of the tree but the stack itself."""
        return psutil.Process(self.process.pid).children(recursive=True)


def start_stack(config: Config, *options: str, seconds: float = 600.0) -> Stack:
    """Start `continuum up` as a process of its own and read its lines until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.stack", "--config-dir", str(config.directory), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(config),
    )
    assert process.stdout is not None
    lines: list[str] = []
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == "ready":
            break
    watchdog.cancel()
    if not lines or lines[-1] != "ready":
        process.communicate()
        raise AssertionError(f"the stack ended with {process.returncode}: {lines}")
    return Stack(process=process, lines=lines)


@contextmanager
def stack(config: Config, *options: str) -> Iterator[Stack]:
    """Run the stack; killed at the end if the test has not ended it."""
    running = start_stack(config, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        try:
            running.process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.communicate()


@contextmanager
def worker(config: Config, *options: str, app: str = "tests.support.doorbell") -> Iterator[subprocess.Popen[bytes]]:
    """Run one worker with one task process on the agent queue of h1; `options` go last and win."""
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-Q", "agent.h1", "-n", "agent@h1", "-c", "1"]
    process = subprocess.Popen(
        [*command, "-O", "fair", "--without-gossip", "--without-mingle", "--loglevel", "INFO", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(config, REMAP_SIGTERM="SIGQUIT"),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
