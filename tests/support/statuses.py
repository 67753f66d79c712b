"""Statuses as a capture writes them, for tests of what reads them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from continuum_tasks.capture.state.environment import CAPTURE, make_private_directory
from continuum_tasks.capture.state.status import CaptureHeartbeat, CaptureState, CaptureStatus, write_heartbeat, write_status
from continuum_tasks.process import worker_id
from continuum_tasks.units import microseconds

TIMELINE = "timeline-20261123-100000-0000abcd"
WORKER = worker_id("h1")  # this process: it lives


def status(at: datetime, **changes: Any) -> CaptureStatus:
    """Return the status at an instant of a capture whose 7 commits are all in the storage."""
    at_us = microseconds(at)
    found = CaptureStatus(
        database="memory",
        state=CaptureState.RUNNING,
        detail="",
        trouble="",
        worker=WORKER,
        storage="local",
        timeline=TIMELINE,
        commit=7,
        observed_us=at_us - 10_000_000,
        durable_commit=7,
        durable_us=at_us - 10_000_000,
        watched_until_us=at_us,
        settled_monotonic_ns=0,
        lag_seconds=0.7,
        lag_p50_seconds=0.6,
        lag_p95_seconds=1.1,
        wal_bytes=4096,
        wal_alarm=False,
        spool_bytes=0,
        spool_segments=0,
        n_pins=1,
        n_holes=0,
        base_after=0,
        shipped_bytes=1000,
        n_requests=5,
        source="",
        updated_us=at_us,
    )
    return replace(found, **changes)


def tell(state_dir: Path, found: CaptureStatus, *, heard_at: datetime) -> None:
    """Write a status, and that its process was alive then."""
    write_status(make_private_directory(state_dir / CAPTURE / found.database), found)
    write_heartbeat(state_dir / CAPTURE, CaptureHeartbeat(worker=found.worker, at_us=microseconds(heard_at)))
