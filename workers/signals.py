"""What happens at the edges of a process's life: logging, file mode, failpoints."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from datetime import UTC, datetime
from typing import Any

from celery import signals
from celery.worker.control import inspect_command

from continuum_tasks import failpoints
from continuum_tasks.capture import overview
from continuum_tasks.capture.overview import CaptureOverview
from continuum_tasks.capture.state.status import CaptureState
from continuum_tasks.config import load_config
from continuum_tasks.errors import ContinuumError
from continuum_tasks.units import microseconds
from workers import settings
from workers.settings import this_config


def connect_signals() -> None:
    """Hook into Celery; it keeps only weak references to what is not a module's own function."""
    signals.setup_logging.connect(log_to_file)
    signals.celeryd_init.connect(_private_files)
    signals.beat_init.connect(_private_files)
    signals.worker_process_init.connect(_begin_task_process)


class JsonLines(logging.Formatter):
    """One JSON object a line: at (UTC), level, process, logger, event, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def log_to_file(loglevel: int, **_: Any) -> None:
    """Send what this process logs to the log file, one JSON object a line."""
    path = settings.this_config().log_file
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    # Reopens the file when something rotated it; several processes append whole lines.
    handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(loglevel)


def _private_files(**_: Any) -> None:
    os.umask(0o077)


def _begin_task_process(**_: Any) -> None:
    os.umask(0o077)
    failpoints.arm(settings.failpoints())


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
