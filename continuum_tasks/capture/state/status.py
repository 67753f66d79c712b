"""What the capture of one database says of itself, in a file that others read."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, cast

from continuum_tasks.capture.state.environment import CAPTURE, write_file
from continuum_tasks.process import holder_died
from continuum_tasks.repository.documents import from_json, to_json

T = TypeVar("T")
STATUS = "status.json"
HEARTBEAT = "agent.json"
FOLLOWED_US = 20_000_000  # one that is followed is looked at each 10 s, and says so within 5


class CaptureState(StrEnum):
    """How a capture stands; what is not one of the first two protects nothing now."""

    RUNNING = "running"  # every commit is captured
    JOURNAL = "journal"  # a rollback-journal database: changes are backed up page by page
    WAITING = "waiting"  # something is in the way, and tried again
    RELEASED = "released"  # let go because a restore asked for it
    FENCED = "fenced"  # another host captures this timeline
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureStatus:
    """The capture of one database. Times in microseconds since 1970, sizes in bytes, lags in seconds.

    `detail` says why it is in this state, `trouble` what fails although it runs, empty when nothing does.
    `commit` is the last one captured, `durable_commit` the last one in the storage, seen at `durable_us`; a lag is from when a
    commit was seen until it was in the storage. `watched_until_us`: there was no commit after `commit` until then.
    `settled_monotonic_ns` is this machine's monotonic clock when the last look began: what was committed before it is in
    `commit`. `base_after` is a commit that cannot be restored before a backup that stands behind it is made, 0 when there is
    none.
    """

    database: str
    state: CaptureState
    detail: str
    trouble: str
    worker: str
    storage: str
    timeline: str
    commit: int
    observed_us: int
    durable_commit: int
    watched_until_us: int
    settled_monotonic_ns: int
    lag_seconds: float
    lag_p50_seconds: float
    lag_p95_seconds: float
    wal_bytes: int
    wal_alarm: bool
    spool_bytes: int
    spool_segments: int
    n_pins: int
    n_holes: int
    base_after: int
    shipped_bytes: int
    n_requests: int
    source: str
    updated_us: int
    durable_us: int = 0

    @property
    def protects(self) -> bool:
        """True when changes are captured now."""
        return self.state in (CaptureState.RUNNING, CaptureState.JOURNAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHeartbeat:
    """The process that captures: who it is, until when it was alive and following what it follows, how many it can follow."""

    worker: str
    at_us: int
    n_databases: int = 0


def write_status(directory: Path, status: CaptureStatus) -> None:
    """Write the status of one database into its capture directory. Raises NoSpace, ConfigError."""
    write_file(directory / STATUS, json.dumps(to_json(status)).encode(), durable=False)


def write_heartbeat(directory: Path, heartbeat: CaptureHeartbeat) -> None:
    """Say that this process is alive, in `directory`, the one of all captures. Raises NoSpace, ConfigError."""
    write_file(directory / HEARTBEAT, json.dumps(to_json(heartbeat)).encode(), durable=False)


def read_status(state_dir: Path, database: str) -> CaptureStatus | None:
    """Return what the capture of a database last said, None when it never ran here.

    One whose process is gone is `stopped`; one that runs has watched until its process's last heartbeat, unless its looks fail.
    """
    status: CaptureStatus | None = _read(state_dir / CAPTURE / database / STATUS, CaptureStatus)
    if status is None:
        return None
    if status.state is not CaptureState.STOPPED and holder_died(status.worker):
        return replace(status, state=CaptureState.STOPPED, detail="its process is gone", n_pins=0)
    heartbeat = read_heartbeat(state_dir)
    if heartbeat is None or heartbeat.worker != status.worker or status.state is not CaptureState.RUNNING:
        return status
    if heartbeat.at_us - status.watched_until_us > FOLLOWED_US:
        return status
    return replace(status, watched_until_us=max(status.watched_until_us, heartbeat.at_us))


def read_heartbeat(state_dir: Path) -> CaptureHeartbeat | None:
    """Return the capture process on this host, None when none runs."""
    found: CaptureHeartbeat | None = _read(state_dir / CAPTURE / HEARTBEAT, CaptureHeartbeat)
    return None if found is None or holder_died(found.worker) else found


def _read(path: Path, cls: type[T]) -> T | None:
    try:
        return cast(T, from_json(cls, json.loads(path.read_text(encoding="utf-8"))))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
