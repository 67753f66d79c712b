"""What is captured on this host, and what keeps it from being so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.place import CAPTURE, EPOCH_MICROSECONDS
from continuum_tasks.capture.spool import oldest_waiting
from continuum_tasks.capture.status import STATUS, Heartbeat, State, Status, read_heartbeat, read_status
from continuum_tasks.config import Config, DatabaseConfig

SILENT_SECONDS = 60.0  # twelve heartbeats: also a process that this one cannot see by its number, as in another container
NEW_TIMELINE = (
    "; another host, perhaps a clone of this one, captures it: stop one of them;"
    " here `continuum backup create --strategy continuous` begins a new timeline"
)
NO_PROCESS = "no process captures on this host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The capture of one database: what it last said (None: it never ran here), and what is wrong with it.

    `troubles` is empty when its commits are captured and on their way, or nobody wants them to be. `rpo_seconds` is how much of
    the newest past the storage does not have, to within `capture_interval`; None when nobody watches or it is not known.
    """

    database: str
    wanted: bool
    status: Status | None
    troubles: tuple[str, ...]
    rpo_seconds: float | None


def look(config: Config, names: Sequence[str], *, now_us: int) -> tuple[Captured, ...]:
    """Look at the captures of these databases; when none is named, of those that are wanted or were captured here once.

    Raises UsageError for a name that backup.conf does not have.
    """
    heartbeat = read_heartbeat(config.state_dir)
    databases = [config.database(name) for name in names] or [one for one in config.databases if _is_known(config, one)]
    return tuple(_captured(config, one, heartbeat, now_us=now_us) for one in databases)


def carried(config: Config) -> int:
    """Return how many databases the process that captures can capture at a time, 0 when none runs."""
    heartbeat = read_heartbeat(config.state_dir)
    return 0 if heartbeat is None else heartbeat.n_databases


def silence(heartbeat: Heartbeat | None, *, now_us: int) -> str:
    """Say that no process captures on this host, empty when one does."""
    if heartbeat is None:
        return NO_PROCESS
    seconds = (now_us - heartbeat.at_us) / EPOCH_MICROSECONDS
    return f"the process that captures has said nothing for {seconds:.0f} s" if seconds > SILENT_SECONDS else ""


def _is_known(config: Config, database: DatabaseConfig) -> bool:
    return database.continuous or (config.state_dir / CAPTURE / database.name / STATUS).exists()


def _captured(config: Config, database: DatabaseConfig, heartbeat: Heartbeat | None, *, now_us: int) -> Captured:
    status = read_status(config.state_dir, database.name)
    silent = silence(heartbeat, now_us=now_us)
    found = ((silent,) if silent else _troubles(config, status)) if database.continuous else ()
    return Captured(
        database=database.name,
        wanted=database.continuous,
        status=status,
        troubles=found,
        rpo_seconds=None if status is None else _rpo_seconds(config.state_dir / CAPTURE / database.name, status, now_us=now_us),
    )


def _rpo_seconds(directory: Path, status: Status, *, now_us: int) -> float | None:
    if status.state is not State.RUNNING or not status.watched_until_us:
        return None
    until_us = status.watched_until_us
    waiting = oldest_waiting(directory, status.timeline)
    if waiting is not None:
        until_us = min(until_us, round(waiting * EPOCH_MICROSECONDS))
    return round(max(0.0, (now_us - until_us) / EPOCH_MICROSECONDS), 3)


def _troubles(config: Config, status: Status | None) -> tuple[str, ...]:
    if status is None:
        return ("its capture has not begun yet",)
    if not status.protects:
        remedy = NEW_TIMELINE if status.state is State.FENCED else ""
        return (f"{status.state}: {status.detail}{remedy}",)
    large = f"its -wal has {status.wal_bytes} bytes, more than wal_alarm_bytes" if status.wal_alarm else ""
    limit = config.capture.spool_limit_bytes
    full = f"{status.spool_bytes} bytes wait to be shipped, more than spool_limit_bytes" if status.spool_bytes > limit else ""
    return tuple(text for text in (status.trouble, large, full) if text)
