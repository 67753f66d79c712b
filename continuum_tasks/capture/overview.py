"""What is captured on this host, and what keeps it from being so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.plan.assessment import Capture
from continuum_tasks.capture.shipping.spool import oldest_waiting
from continuum_tasks.capture.state import fence
from continuum_tasks.capture.state.environment import CAPTURE, EPOCH_MICROSECONDS
from continuum_tasks.capture.state.holes import read_holes
from continuum_tasks.capture.state.status import (
    STATUS,
    CaptureHeartbeat,
    CaptureState,
    CaptureStatus,
    read_heartbeat,
    read_status,
)
from continuum_tasks.config import Config, DatabaseConfig
from continuum_tasks.host.site import HostContext
from continuum_tasks.units import instant

SILENT_SECONDS = 60.0  # twelve heartbeats: also a process that this one cannot see by its number, as in another container
NEW_TIMELINE = (
    "; another host, perhaps a clone of this one, captures it: stop one of them;"
    " here `continuum backup create --strategy continuous` begins a new timeline"
)
NO_PROCESS = "no process captures on this host"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOverview:
    """The capture of one database: what it last said (None: it never ran here), and what is wrong with it.

    `troubles` is empty when its commits are captured and on their way, or nobody wants them to be. `rpo_seconds` is how much of
    the newest past the storage does not have, to within `capture_interval`; None when nobody watches or it is not known.
    """

    database: str
    wanted: bool
    status: CaptureStatus | None
    troubles: tuple[str, ...]
    rpo_seconds: float | None


def capture_overview(config: Config, names: Sequence[str], *, now_us: int) -> tuple[CaptureOverview, ...]:
    """Look at the captures of these databases; when none is named, of those that are wanted or were captured here once.

    Raises UsageError for a name that backup.conf does not have.
    """
    heartbeat = read_heartbeat(config.state_dir)
    databases = [config.database(name) for name in names] or [one for one in config.databases if _is_known(config, one)]
    return tuple(_captured(config, one, heartbeat, now_us=now_us) for one in databases)


def carried(config: Config) -> int:
    """Return how many databases the capture process can capture at a time, 0 when none runs."""
    heartbeat = read_heartbeat(config.state_dir)
    return 0 if heartbeat is None else heartbeat.n_databases


def silence(heartbeat: CaptureHeartbeat | None, *, now_us: int) -> str:
    """Say that no process captures on this host, empty when one does."""
    if heartbeat is None:
        return NO_PROCESS
    seconds = (now_us - heartbeat.at_us) / EPOCH_MICROSECONDS
    return f"the capture process has not reported for {seconds:.0f} s" if seconds > SILENT_SECONDS else ""


def _is_known(config: Config, database: DatabaseConfig) -> bool:
    return database.continuous or (config.state_dir / CAPTURE / database.name / STATUS).exists()


def _captured(config: Config, database: DatabaseConfig, heartbeat: CaptureHeartbeat | None, *, now_us: int) -> CaptureOverview:
    status = read_status(config.state_dir, database.name)
    silent = silence(heartbeat, now_us=now_us)
    found = ((silent,) if silent else _troubles(config, status)) if database.continuous else ()
    return CaptureOverview(
        database=database.name,
        wanted=database.continuous,
        status=status,
        troubles=found,
        rpo_seconds=None if status is None else _rpo_seconds(config.state_dir / CAPTURE / database.name, status, now_us=now_us),
    )


def _rpo_seconds(directory: Path, status: CaptureStatus, *, now_us: int) -> float | None:
    if status.state is not CaptureState.RUNNING or not status.watched_until_us:
        return None
    until_us = status.watched_until_us
    waiting = oldest_waiting(directory, status.timeline)
    if waiting is not None:
        until_us = min(until_us, round(waiting * EPOCH_MICROSECONDS))
    return round(max(0.0, (now_us - until_us) / EPOCH_MICROSECONDS), 3)


def _troubles(config: Config, status: CaptureStatus | None) -> tuple[str, ...]:
    if status is None:
        return ("its capture has not begun yet",)
    if not status.protects:
        remedy = NEW_TIMELINE if status.state is CaptureState.FENCED else ""
        return (f"{status.state}: {status.detail}{remedy}",)
    large = f"its -wal has {status.wal_bytes} bytes, more than wal_alarm_bytes" if status.wal_alarm else ""
    limit = config.capture.spool_limit_bytes
    full = f"{status.spool_bytes} bytes wait to be shipped, more than spool_limit_bytes" if status.spool_bytes > limit else ""
    return tuple(text for text in (status.trouble, large, full) if text)


def capture_of(database: DatabaseConfig, *, config: Config, site: HostContext) -> Capture | None:
    """Return what is known of the capture of a database, None when it is not to be captured."""
    if not database.continuous:
        return None
    holes = read_holes(site.state_dir, database.name)
    status = read_status(site.state_dir, database.name)
    if status is None:
        return Capture(holes=holes)
    heartbeat = read_heartbeat(site.state_dir)
    fenced = fence.is_up(site.state_dir / CAPTURE / database.name)
    return Capture(
        state=status.state.value,
        detail=fence.fence_reason(site.state_dir / CAPTURE / database.name) if fenced else status.detail,
        trouble=status.trouble,
        running=status.state is CaptureState.RUNNING,
        journal=status.state is CaptureState.JOURNAL,
        fenced=fenced,
        heard_at=instant(_heard_us(status, heartbeat)),
        storage=status.storage,
        timeline=status.timeline,
        commit=status.commit,
        durable_commit=status.durable_commit,
        durable_us=status.durable_us,
        watched_until_us=status.watched_until_us,
        lag_p50_seconds=status.lag_p50_seconds,
        lag_p95_seconds=status.lag_p95_seconds,
        wal_bytes=status.wal_bytes,
        wal_alarm=status.wal_alarm,
        spool_bytes=status.spool_bytes,
        spool_segments=status.spool_segments,
        spool_limit_bytes=config.capture.spool_limit_bytes,
        base_after=status.base_after,
        shipped_bytes=status.shipped_bytes,
        n_requests=status.n_requests,
        holes=holes,
    )


def _heard_us(status: CaptureStatus, heartbeat: CaptureHeartbeat | None) -> int:
    if heartbeat is None or heartbeat.worker != status.worker:
        return status.updated_us
    return max(status.updated_us, heartbeat.at_us)
