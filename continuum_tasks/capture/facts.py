"""Read what the captures of this host say of themselves: files of this host alone, so that it can be done each minute."""

from __future__ import annotations

from continuum_tasks.capture.plan.assessment import Capture
from continuum_tasks.capture.state import fence
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.holes import read_holes
from continuum_tasks.capture.state.status import CaptureHeartbeat, CaptureState, CaptureStatus, read_heartbeat, read_status
from continuum_tasks.config import Config, DatabaseConfig
from continuum_tasks.host.site import HostContext
from continuum_tasks.units import instant


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
