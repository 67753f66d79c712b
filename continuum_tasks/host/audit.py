"""The audit log: who did what, when, with which outcome; one JSON line each, appended, never changed.

Every line carries the SHA-256 of itself and that of the line before it, so a line that was changed, moved or taken out of
the middle shows. (Who can rewrite the whole file can forge the whole chain, and who cuts lines off its end leaves a good
shorter one: ship it elsewhere if that matters.)
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from continuum_tasks.repository.documents import from_json, to_json

FILE = "audit.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing done: `action` a verb of the product, `subject` a backup, database, setting or path."""

    at: datetime
    user: str
    host: str
    action: str
    subject: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One event as read back; `trouble` says how the line, or the chain of hashes at it, is not as it was written."""

    number: int
    event: Event | None
    trouble: str = ""

    @property
    def intact(self) -> bool:
        return not self.trouble


def append_event(path: Path, event: Event) -> None:
    """Append one event, durable on return (0600). Two processes never write into each other's line. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        tail = _tail(descriptor)
        fields = {**to_json(event), "previous": _digest(tail.rstrip(b"\n"))}
        line = json.dumps({**fields, "sha256": _sealed(fields)}, sort_keys=True).encode() + b"\n"
        if tail and not tail.endswith(b"\n"):
            line = b"\n" + line  # behind a line that a full disk or a power cut left torn
        with open(descriptor, "ab", closefd=False) as file:
            file.write(line)
        os.fsync(descriptor)
    except OSError as err:
        raise OSError(err.errno, err.strerror, str(path)) from err
    finally:
        os.close(descriptor)


def read_events(path: Path, *, since: datetime | None = None) -> Iterator[AuditLine]:
    """Read the events at or after `since`, oldest first, and every line that is not intact. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    previous = b""
    with os.fdopen(descriptor, "rb") as file:
        for number, raw in enumerate(file, 1):
            text = raw.rstrip(b"\n")
            line = _parse(number, text, previous)
            previous = text
            if line.event is None or line.trouble or since is None or line.event.at >= since:
                yield line


def _parse(number: int, raw: bytes, previous: bytes) -> AuditLine:
    try:
        values: dict[str, Any] = json.loads(raw)
        as_written = json.dumps(values, sort_keys=True).encode() == raw  # to the byte: other spacing is a change too
        chained = values["previous"] == _digest(previous)
        sealed = values.pop("sha256") == _sealed(values)
        event = from_json(Event, {key: value for key, value in values.items() if key != "previous"})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return AuditLine(number=number, event=None, trouble="cannot be read")
    if not (sealed and as_written):
        return AuditLine(number=number, event=event, trouble="was changed")
    after = f"does not follow from line {number - 1}" if number > 1 else "is not where the log began"
    return AuditLine(number=number, event=event, trouble="" if chained else f"{after}: lines were removed, inserted or changed")


def _sealed(fields: Mapping[str, Any]) -> str:
    return _digest(json.dumps(fields, sort_keys=True).encode())


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest() if line else ""


def _tail(descriptor: int) -> bytes:
    """Return the last line, its line break included if it has one."""
    size = os.fstat(descriptor).st_size
    n_bytes = 65_536
    while True:
        tail = os.pread(descriptor, n_bytes, max(0, size - n_bytes))
        start = tail.rstrip(b"\n").rfind(b"\n") + 1
        if start or n_bytes >= size:
            return tail[start:]
        n_bytes *= 8
