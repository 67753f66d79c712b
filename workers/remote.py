"""What workers answer when Celery's remote control asks: `celery -A workers.app inspect capture`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celery.worker.control import inspect_command

from continuum_tasks.capture import overview
from continuum_tasks.capture.overview import CaptureOverview
from continuum_tasks.capture.state.environment import microseconds
from continuum_tasks.capture.state.status import CaptureState
from continuum_tasks.config import load_config
from continuum_tasks.errors import ContinuumError
from workers.settings import this_config


def connect_remote() -> None:
    """Have every worker of this process's app answer."""
    inspect_command(name="capture")(show_capture)


def show_capture(_state: Any, **_: Any) -> dict[str, Any]:
    """Show how the capture of this host's databases stands: state, lag and RPO of each, by name."""
    try:
        config = load_config(this_config().directory)  # as it is now: databases are switched on and off while we run
        found = overview.capture_overview(config, (), now_us=microseconds(datetime.now(UTC)))
    except ContinuumError as err:
        return {"error": err.message}
    return {one.database: _fields(one) for one in found}


def _fields(one: CaptureOverview) -> dict[str, Any]:
    status = one.status
    return {
        "state": CaptureState.STOPPED.value if status is None else status.state.value,
        "wanted": one.wanted,
        "troubles": list(one.troubles),
        "timeline": None if status is None else status.timeline,
        "commit": None if status is None else status.commit,
        "durable_commit": None if status is None else status.durable_commit,
        "lag_p50_seconds": None if status is None else status.lag_p50_seconds,
        "lag_p95_seconds": None if status is None else status.lag_p95_seconds,
        "rpo_seconds": one.rpo_seconds,
    }
