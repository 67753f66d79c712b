"""What the processes that hold pins have open, counted from outside."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def holders() -> list[psutil.Process]:
    """Return the processes below this one that hold pins or make copies."""
    found = []
    for process in psutil.Process(os.getpid()).children(recursive=True):
        try:
            if "continuum_tasks.capture.pins.process" in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def opened(path: Path) -> list[str]:
    """Return the name of each file of a database that they have open, as often as it is open."""
    return [name for process in holders() for name in _opened(process.pid) if name.startswith(path.name)]


def pins(path: Path) -> int:
    """Return how many connections they have to a database: each has its `-wal` open once."""
    return opened(path).count(f"{path.name}-wal")


def _opened(pid: int) -> list[str]:
    found = []
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.append(link.readlink().name)
            except FileNotFoundError:
                continue
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found
