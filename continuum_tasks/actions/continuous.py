"""Switch the capture of a database on and off, and wait until it is so."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.actions import configure
from continuum_tasks.actions.audited import Deed, note
from continuum_tasks.actions.captures import NO_PROCESS, silence
from continuum_tasks.actions.site import Site
from continuum_tasks.capture import fence
from continuum_tasks.capture.place import CAPTURE, microseconds
from continuum_tasks.capture.status import State, Status, read_heartbeat, read_status
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import JobFailed, NoWorker, SourceRefused
from continuum_tasks.model import Progress
from continuum_tasks.sqlite import reserved
from continuum_tasks.sqlite.inspect import Source, inspect

GRACE_SECONDS = 5.0  # a process that captures was perhaps started in this moment
REMEDY = "start it: `continuum up`, or `continuum backup capture run`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Whose capture is switched, in which configuration, by whom. `environment` is the one of this process."""

    database: DatabaseConfig
    directory: Path
    environment: Mapping[str, str]
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedOn:
    """What was done: `fence` is why one stood that was taken down, empty when none did."""

    source: Source
    changed: configure.Changed
    fence: str


def switch_on(request: Switch, *, site: Site) -> SwitchedOn:
    """Have the commits of a database captured from now on, on a timeline of its own where another writer took the old one over.

    Nothing is changed when the database cannot be captured. Raises SourceMissing, SourceRefused, ConfigError, LockError.
    """
    source = inspect(request.database.path, accepted=request.database.accept_file_system)
    if source.wal and source.reserved_bytes:
        raise SourceRefused(
            f"{reserved.explained(source.path, source.reserved_bytes)}: its log cannot be captured",
            hint=f"have it backed up often: `config set database:{request.database.name}.incremental_every 2m`",
        )
    changed = _set(request, "yes", site=site)
    directory = site.state_dir / CAPTURE / request.database.name
    why = fence.reason(directory)
    if fence.is_up(directory):
        fence.take_down(directory)
        deed = Deed(action="new-timeline", subject=request.database.name, by=request.by, detail=f"fence taken down: {why}")
        note(deed, site=site)
    return SwitchedOn(source=source, changed=changed, fence=why)


def switch_off(request: Switch, *, site: Site) -> configure.Changed:
    """Have the commits of a database captured no longer. Raises ConfigError, LockError."""
    return _set(request, "no", site=site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How to wait: `pause` between two looks, and how long (seconds) nothing may come of it."""

    pause: Callable[[], None]
    patience_seconds: float = 60.0


def await_capture(database: str, wait: Wait, *, site: Site) -> Generator[Progress, None, Status]:
    """Wait until a database is captured and a backup stands behind its first commit; returns its status then.

    Raises NoWorker when no process captures on this host, JobFailed when its capture fails for too long.
    """
    well_at = begun = site.clock.monotonic()
    while True:
        now = site.clock.monotonic()
        silent = silence(read_heartbeat(site.state_dir), now_us=microseconds(site.clock.now()))
        if silent and now - begun >= GRACE_SECONDS:
            raise NoWorker(f"database {database}: switched on, but {silent}", hint=REMEDY)
        status = None if silent else read_status(site.state_dir, database)
        if status is not None and _is_captured(status):
            return status
        if status is not None and status.protects and not status.trouble:
            well_at = now
        if now - well_at >= wait.patience_seconds:
            hint = "it is tried again and again: `continuum backup capture status` shows how it stands"
            raise JobFailed(f"database {database}: switched on, but not captured yet: {_why_not(status)}", hint=hint)
        yield Progress(phase="waiting for the process that captures" if status is None else _phase(status))
        wait.pause()


def await_stop(database: str, wait: Wait, *, site: Site) -> Generator[Progress, None, Status | None]:
    """Wait until nothing of a database is held any more; returns what its capture said last, None when it never ran here.

    Raises JobFailed when it does not let go.
    """
    begun = site.clock.monotonic()
    while True:
        status = read_status(site.state_dir, database)
        if status is None or status.state is State.STOPPED or read_heartbeat(site.state_dir) is None:
            return status
        if site.clock.monotonic() - begun >= wait.patience_seconds:
            hint = "see `continuum backup capture status` and `continuum backup logs`"
            raise JobFailed(f"database {database}: switched off, but its capture is still {status.state}", hint=hint)
        yield Progress(phase=f"{status.state}, to be stopped")
        wait.pause()


def _set(request: Switch, value: str, *, site: Site) -> configure.Changed:
    asked = configure.Request(
        setting=f"database:{request.database.name}.continuous",
        value=value,
        directory=request.directory,
        environment=request.environment,
        by=request.by,
    )
    return configure.run(asked, now=site.clock.now())


def _is_captured(status: Status) -> bool:
    return status.state is State.JOURNAL or (status.state is State.RUNNING and status.commit > 0 and not status.base_after)


def _phase(status: Status) -> str:
    if status.trouble:
        return status.trouble
    if status.state is State.RUNNING:
        return f"the backup behind commit {status.base_after}"
    return f"{status.state}: {status.detail}"


def _why_not(status: Status | None) -> str:
    return NO_PROCESS if status is None else status.trouble or f"{status.state}: {status.detail}"
