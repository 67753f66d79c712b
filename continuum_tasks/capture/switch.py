"""Switch the capture of a database on and off, and wait until it is so."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.overview import NO_PROCESS, silence
from continuum_tasks.capture.state import fence
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.requests import ask_to_look
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_heartbeat, read_status
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import ContinuumError, JobFailed, NoWorker, SourceRefused
from continuum_tasks.host.audit_trail import AuditEntry, note_entry
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Progress
from continuum_tasks.setup import configure
from continuum_tasks.sqlite import journal, reserved
from continuum_tasks.sqlite.inspect import DatabaseSource, inspect
from continuum_tasks.units import microseconds

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

    source: DatabaseSource
    changed: configure.Changed
    fence: str


def switch_on(request: Switch, *, site: HostContext) -> SwitchedOn:
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
    why = fence.fence_reason(directory)
    if fence.is_up(directory):
        fence.take_down(directory)
        deed = AuditEntry(action="new-timeline", subject=request.database.name, by=request.by, detail=f"fence removed: {why}")
        note_entry(deed, site=site)
    return SwitchedOn(source=source, changed=changed, fence=why)


def switch_off(request: Switch, *, site: HostContext) -> configure.Changed:
    """Have the commits of a database captured no longer. Raises ConfigError, LockError."""
    return _set(request, "no", site=site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How to wait: `pause` between two looks, and how long (seconds) nothing may come of it."""

    pause: Callable[[], None]
    patience_seconds: float = 60.0


def await_capture(database: str, wait: Wait, *, site: HostContext) -> Generator[Progress, None, CaptureStatus]:
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
            hint = "capture keeps trying: `continuum backup capture status` shows its state"
            raise JobFailed(f"database {database}: switched on, but not captured yet: {_why_not(status)}", hint=hint)
        yield Progress(phase="waiting for the capture process" if status is None else _phase(status))
        wait.pause()


def await_stop(database: str, wait: Wait, *, site: HostContext) -> Generator[Progress, None, CaptureStatus | None]:
    """Wait until nothing of a database is held any more; returns what its capture said last, None when it never ran here.

    Raises JobFailed when it does not let go.
    """
    begun = site.clock.monotonic()
    while True:
        status = read_status(site.state_dir, database)
        if status is None or status.state is CaptureState.STOPPED or read_heartbeat(site.state_dir) is None:
            return status
        if site.clock.monotonic() - begun >= wait.patience_seconds:
            hint = "see `continuum backup capture status` and `continuum backup logs`"
            raise JobFailed(f"database {database}: switched off, but its capture is still {status.state}", hint=hint)
        yield Progress(phase=f"{status.state}, to be stopped")
        wait.pause()


def _set(request: Switch, value: str, *, site: HostContext) -> configure.Changed:
    asked = configure.SettingChange(
        setting=f"database:{request.database.name}.continuous",
        value=value,
        directory=request.directory,
        environment=request.environment,
        by=request.by,
    )
    return configure.change_setting(asked, now=site.clock.now())


def _is_captured(status: CaptureStatus) -> bool:
    return status.state is CaptureState.JOURNAL or (
        status.state is CaptureState.RUNNING and status.commit > 0 and not status.base_after
    )


def _phase(status: CaptureStatus) -> str:
    if status.trouble:
        return status.trouble
    if status.state is CaptureState.RUNNING:
        return f"the backup behind commit {status.base_after}"
    return f"{status.state}: {status.detail}"


def _why_not(status: CaptureStatus | None) -> str:
    return NO_PROCESS if status is None else status.trouble or f"{status.state}: {status.detail}"


def is_enabled(database: DatabaseConfig) -> bool:
    """Tell whether the database is in WAL mode. Raises SourceMissing, or SourceRefused for one that could not be switched."""
    return inspect(database.path, accepted=database.accept_file_system).wal


def enable_wal_mode(database: DatabaseConfig, *, by: str, site: HostContext) -> bool:
    """Switch to WAL mode; False when it was in it already, and nothing was done. A capture of it begins at once.

    Raises SourceMissing, SourceRefused, SourceBusy; OSError naming the audit log when that cannot be written.
    """
    source = inspect(database.path, accepted=database.accept_file_system)
    if source.wal:
        return False
    if source.reserved_bytes:
        raise SourceRefused(
            reserved.explained(source.path, source.reserved_bytes),
            hint="have the service switch it itself (PRAGMA journal_mode = wal); its commits cannot be captured either way",
        )
    deed = AuditEntry(action="enable-wal", subject=database.name, by=by, detail=str(source.path))
    try:
        journal.switch_to_wal(source.path)
    except ContinuumError as err:
        note_entry(
            AuditEntry(action=deed.action, subject=deed.subject, by=by, detail=err.message),
            site=site,
            outcome=type(err).__name__,
        )
        raise
    note_entry(deed, site=site)
    ask_to_look(site.state_dir, database.name)
    return True
