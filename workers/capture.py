"""Capture every commit of the databases whose section of backup.conf says `continuous = yes`: `python -m workers.capture`.

It needs no broker: commits are captured and shipped while Redis is away.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import click

from continuum_tasks.capture.agent import Agent
from continuum_tasks.capture.descriptors import raise_limit
from continuum_tasks.capture.state.environment import CAPTURE, CaptureContext
from continuum_tasks.capture.supervisor import WantedCapture
from continuum_tasks.config import find_config_directory, load_config
from continuum_tasks.errors import ConfigError, ContinuumError, DatabaseLocked
from continuum_tasks.host.metadata import METADATA
from continuum_tasks.process import worker_id
from continuum_tasks.repository.lock import host_lock
from continuum_tasks.runtime import Runtime, open_runtime
from continuum_tasks.sqlite.mount_tables import RecentMountTables
from workers.follow_ups import ChildRunner
from workers.pools import environment
from workers.signals import log_to_file

LOCK = "capture.process"  # no database is called so
MOUNTS_SECONDS = 5.0  # how old the mount tables may be that databases are looked for in
_log = logging.getLogger(__name__)


def capture_until_stopped(directory: Path) -> None:
    """Capture until SIGINT or SIGTERM. Raises DatabaseLocked when another process of this host does already, ConfigError."""
    os.umask(0o077)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    capacity = raise_limit()
    with open_runtime(load_config(directory)) as runtime, _only_one(runtime):
        log_to_file(logging.INFO)
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it notes every event
        _log.info("%d open files carry the capture of %d databases", capacity.n_files, capacity.n_databases)
        click.echo("capture: ready")
        runner_for = partial(runner_of, runtime)
        Agent(_Wanted(directory), place=place_of(runtime), runner_for=runner_for, capacity=capacity).run(stop.is_set)
    click.echo("capture: stopped")


@contextmanager
def _only_one(runtime: Runtime) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(host_lock(LOCK, runtime.site.contender()))
        except DatabaseLocked as err:
            hint = "`continuum up` runs one; `continuum backup capture status` shows what it does"
            raise DatabaseLocked(f"host {runtime.site.host}: another process captures here ({err.message})", hint=hint) from err
        yield


def place_of(runtime: Runtime) -> CaptureContext:
    """Return this host as capture sees it."""
    config = runtime.config
    return CaptureContext(
        host=config.host,
        worker=worker_id(config.host),
        directory=config.state_dir / CAPTURE,
        temp_dir=config.temp_dir,
        backup=config.backup,
        capture=config.capture,
        clock=runtime.site.clock,
        random_bytes=runtime.site.random_bytes,
        pause=lambda: time.sleep(0.0002),
        repository=runtime.repository,
        mount_tables=RecentMountTables(seconds=MOUNTS_SECONDS, monotonic=runtime.site.clock.monotonic),
    )


def runner_of(runtime: Runtime, database: str) -> ChildRunner:
    """Return what does the jobs that the capture of a database needs."""
    config = runtime.config
    return ChildRunner(
        config.state_dir / CAPTURE / database,
        metadata=config.state_dir / METADATA,
        environment=environment(config.directory, os.environ),
        monotonic=runtime.site.clock.monotonic,
        random_bytes=runtime.site.random_bytes,
    )


class _Wanted:
    """The databases that backup.conf wants captured; it is read again when its file is another one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stamp: tuple[int, int] | None = None
        self._found: Sequence[WantedCapture] = ()

    def __call__(self) -> Sequence[WantedCapture]:
        path = self._directory / "backup.conf"
        try:
            status = path.stat()
        except OSError as err:
            raise ConfigError(f"{path}: cannot be read ({err.strerror})", hint="put it back") from err
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            databases = load_config(self._directory).databases
            self._found = tuple(
                WantedCapture(database=one.name, storage=one.storage, path=one.path.resolve(), accepted=one.accept_file_system)
                for one in databases
                if one.continuous
            )
            self._stamp = stamp
        return self._found


def main() -> None:
    """Run until told to stop; a refusal is one line, with its exit code."""
    try:
        capture_until_stopped(find_config_directory(None, os.environ))
    except ContinuumError as err:
        click.echo(f"error: {err.message}" + (f"\nhint: {err.hint}" if err.hint else ""), err=True)
        sys.exit(err.exit_code)


if __name__ == "__main__":
    main()
