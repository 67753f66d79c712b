"""sqlite/directory.py: what makes names in a directory durable, and the names SQLite gives a database's companions."""

from __future__ import annotations

import os
from pathlib import Path

SIDECARS = ("-wal", "-shm", "-journal")


def sync_directory(directory: Path) -> None:
    """Make renames, links and unlinks in `directory` survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sidecars(path: Path) -> tuple[Path, ...]:
    """Return the -wal, -shm and -journal that exist beside a database."""
    names = (path.with_name(path.name + suffix) for suffix in SIDECARS)
    return tuple(name for name in names if os.path.lexists(name))


def identity(path: Path) -> tuple[int, int] | None:
    """Return (device, inode) of the name itself, None when it is not there."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def record_path(target: Path) -> Path:
    """Return the name of the record for this target."""
    return target.with_name(f".{target.name}.continuum-restore")
