"""capture/place.py: where capture runs: this host, its directory, settings, clock and chance; all arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from continuum_tasks.config import BackupSettings, CaptureSettings
from continuum_tasks.repository import Repository
from continuum_tasks.sqlite.mount_tables import MountTables, read_mount_tables
from continuum_tasks.sqlite.snapshot import Clock

CAPTURE = "capture"  # in the state directory
EPOCH_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """This host as capture sees it. `directory` is `capture` below the state directory; `pause` waits a moment."""

    host: str
    worker: str
    directory: Path
    temp_dir: Path
    backup: BackupSettings
    capture: CaptureSettings
    clock: Clock
    random_bytes: Callable[[int], bytes]
    pause: Callable[[], None]
    repository: Callable[[str], Repository]
    mount_tables: Callable[[], MountTables] = read_mount_tables

    def now_us(self) -> int:
        """Return the time in microseconds since 1970 (UTC)."""
        return microseconds(self.clock.now())


def microseconds(at: datetime) -> int:
    """Return an instant in microseconds since 1970 (UTC)."""
    return round(at.timestamp() * EPOCH_MICROSECONDS)
