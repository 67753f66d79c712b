"""Keep what failed in this process where workers keep what fails in theirs: in a job row, and in the log that is there.

So `list --status failed`, `logs --level error`, `health` and `report` tell of it on a host without workers too.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from continuum_tasks.cli.frame.enqueue import JobRow
from continuum_tasks.errors import ContinuumError
from continuum_tasks.runtime import Runtime


def keep_local_failure(row: JobRow, runtime: Runtime, error: ContinuumError) -> None:
    """Keep one failure. What cannot be kept is left: the error itself is about to be said."""
    now = datetime.now(UTC)
    with contextlib.suppress(ContinuumError):
        runtime.jobs.note_failed(row.kind, row.args, error, database=row.database, now=now)
    hint = f" ({error.hint})" if error.hint else ""
    event = f"{row.kind} {row.database}".strip() + f": {type(error).__name__}: {error.message}{hint}"
    _log(runtime.config.log_file, event, now=now)


def _log(path: Path, event: str, *, now: datetime) -> None:
    """Append to a log that is there: one that this user made could be one that the workers cannot write."""
    line = {
        "at": now.isoformat(timespec="milliseconds"),
        "level": "error",
        "process": os.getpid(),
        "logger": "continuum_tasks.cli",
        "event": event,
    }
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")
