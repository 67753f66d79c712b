"""Private directories for staged copies, and the removal of those a killed process left."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from continuum_tasks.errors import ConfigError, NoSpace

_PREFIX = "continuum-stage-"
# The lock is taken some microseconds after the directory appears; a minute keeps a sweep clear of that gap.
_SWEEP_AFTER_SECONDS = 60
_MARGIN_BYTES = 16 * 1024 * 1024


@contextmanager
def private_directory(parent: Path, *, now: datetime) -> Iterator[Path]:
    """Make a 0700 directory in `parent` (made 0700 when missing), locked while in use and removed at exit."""
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_trusted(parent)
        sweep(parent, now=now)
        private = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as err:
        raise ConfigError(f"{parent}: cannot stage there ({err.strerror})", hint="check temp_dir and its owner") from err
    lock = os.open(private, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield private
    finally:
        try:
            shutil.rmtree(private)
        finally:  # what cannot be removed now is removed by a later sweep, which goes by the lock
            os.close(lock)


def _check_trusted(parent: Path) -> None:
    """Refuse a directory in which another user could swap what we stage. Raises ConfigError."""
    status = parent.stat()
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, os.geteuid()) or shared:
        raise ConfigError(
            f"{parent}: another user may change what is staged there (owner {status.st_uid}, mode {status.st_mode & 0o7777:o})",
            hint="set temp_dir in backup.conf to a directory of your own with mode 0700",
        )


def sweep(parent: Path, *, now: datetime) -> None:
    """Remove staging directories whose process is gone: their lock is free and they are older than a minute."""
    for left in parent.glob(f"{_PREFIX}*"):
        if not left.is_symlink() and left.is_dir() and _is_old(left, now):
            _remove_unlocked(left)


def check_space(directory: Path, need_bytes: int, *, name: str) -> None:
    """Raise NoSpace unless `need_bytes` for the database `name` and 16 MiB more are free in `directory`."""
    free = shutil.disk_usage(directory).free
    if free < need_bytes + _MARGIN_BYTES:
        raise NoSpace(
            f"{name}: staging needs {need_bytes + _MARGIN_BYTES} bytes in {directory}, {free} are free",
            hint="free space there, or set temp_dir in backup.conf to a larger disk",
        )


def _is_old(left: Path, now: datetime) -> bool:
    try:
        return now.timestamp() - left.stat().st_mtime > _SWEEP_AFTER_SECONDS
    except FileNotFoundError:
        return False


def _remove_unlocked(left: Path) -> None:
    try:
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # removed meanwhile, or another user's
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(left, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(lock)
