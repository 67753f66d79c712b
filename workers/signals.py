"""What happens at the edges of a process's life: logging, file mode, failpoints."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from datetime import UTC, datetime
from typing import Any

from celery import signals

from continuum_tasks import failpoints
from workers import settings


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
