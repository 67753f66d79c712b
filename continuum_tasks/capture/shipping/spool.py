"""Sealed segments that wait on this host's disk to be shipped, oldest first."""

from __future__ import annotations

import contextlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.state.environment import make_private_directory, write_file
from continuum_tasks.model import TimelineId

SPOOL = "spool"
_NAME = re.compile(r"(\d{10})\.segment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """One segment in the spool."""

    seq: int
    path: Path
    size_bytes: int


class Spool:
    """The spool of one timeline, in `directory`."""

    def __init__(self, directory: Path, timeline: TimelineId) -> None:
        self.directory = make_private_directory(directory / SPOOL / timeline)

    def put(self, seq: int, data: bytes | bytearray) -> None:
        """Keep a segment, durable on return. Raises NoSpace, ConfigError."""
        write_file(self.directory / f"{seq:010d}.segment", data, durable=True)

    def waiting(self) -> list[Spooled]:
        """Return what is there, oldest first."""
        found = []
        for path in self.directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if match:
                with suppress(FileNotFoundError):  # shipped in this instant
                    found.append(Spooled(seq=int(match[1]), path=path, size_bytes=path.stat().st_size))
        return sorted(found, key=lambda one: one.seq)

    def remove(self, seq: int) -> None:
        """Remove a segment that is in the storage."""
        (self.directory / f"{seq:010d}.segment").unlink(missing_ok=True)


def oldest_waiting(directory: Path, timeline: str) -> float | None:
    """Return when the oldest segment that waits was spooled (seconds since 1970), None when none does; for other processes."""
    times = []
    for path in (directory / SPOOL / timeline).glob("*.segment"):
        with contextlib.suppress(FileNotFoundError):  # it was shipped in this moment
            times.append(path.stat().st_mtime)
    return min(times, default=None)
