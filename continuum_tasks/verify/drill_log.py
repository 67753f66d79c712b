"""The drill log: one line for each drill, written when it is over; SUCCESS stands there only when everything held."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from continuum_tasks.errors import ConfigError
from continuum_tasks.model import DrillRecord


def open_for_appending(path: Path) -> int:
    """Return a descriptor that appends to the log (made 0600 when missing). Raises ConfigError before any work is done."""
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as err:
        reason = (err.strerror or type(err).__name__).lower()
        raise ConfigError(f"{path}: the drill log cannot be written: {reason}", hint="set drill_log in backup.conf") from err


def append_drill_line(descriptor: int, line: str) -> None:
    """Append one line, durable on return; line breaks inside it become spaces."""
    os.write(descriptor, " ".join(line.split()).encode("utf-8", "backslashreplace") + b"\n")
    os.fsync(descriptor)


def line(record: DrillRecord, *, storage: str) -> str:
    """Return what the log says about a drill."""
    head = f"DR Drill {_stamp(record.at)}: {'SUCCESS' if record.passed else 'FAILED'} {record.backup_id}"
    where = f"(database {record.database}, storage {storage}, host {record.host})"
    phases = ", ".join(f"{cost.phase} {cost.seconds:.2f} s" for cost in record.phases)
    if record.passed:
        return f"{head} {where}: ready after {record.rto_seconds:.2f} s ({phases})"
    return f"{head} {where}: {'; '.join(record.findings)} ({phases})"


def line_of_no_record(backup_id: str, *, at: datetime, reason: str) -> str:
    """Return what the log says about a drill that ended before it could be recorded."""
    return f"DR Drill {_stamp(at)}: FAILED {backup_id}: {reason}"


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
