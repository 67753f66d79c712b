"""What happens at the edges of a process's life: logging, file mode, failpoints."""

from __future__ import annotations

import logging
import logging.handlers
import os
import time
from typing import Any

from celery import signals

from continuum_tasks import failpoints
from workers import settings


def connect() -> None:
    """Hook into Celery; it keeps only weak references to what is not a module's own function."""
    signals.setup_logging.connect(_log_to_file)
    signals.celeryd_init.connect(_private_files)
    signals.beat_init.connect(_private_files)
    signals.worker_process_init.connect(_begin_task_process)


def _log_to_file(loglevel: int, **_: Any) -> None:
    path = settings.this_config().log_file
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    # Reopens the file when something rotated it; several processes append whole lines.
    handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8", delay=True)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(process)d %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(loglevel)


def _private_files(**_: Any) -> None:
    os.umask(0o077)


def _begin_task_process(**_: Any) -> None:
    os.umask(0o077)
    failpoints.arm(settings.failpoints())
