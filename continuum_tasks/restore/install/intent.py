"""The record beside a target that says a restore is being installed there, and by whom.

It is durable before the first change and removed after the last. Its file lock is held by the living installer, so a
record whose lock is free was left by a killed one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from continuum_tasks.errors import TargetBusy, TargetError
from continuum_tasks.sqlite.raw import identity, record_path, sync_directory

_VERSION = 1
_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What an install was about to do. Names are relative to the target's directory; `old` and `temp` are inodes.

    `old_inode` is 0 for a target that was not there. Devices need no record: all lies on one file system.
    """

    target: str
    temp: str
    temp_inode: int
    old_inode: int
    quarantine: str
    pid: int
    begun_at: str


@contextmanager
def recorded(target: Path, intent: Intent) -> Iterator[None]:
    """Hold a durable, locked record. The caller removes it with `forget_intent`. Raises TargetBusy when there is one."""
    record = record_path(target)
    try:
        fd = os.open(record, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as err:
        raise _busy(target) from err
    try:
        _lock(fd, target)
        text = json.dumps({"version": _VERSION, **asdict(intent)}, indent=1)
        os.write(fd, text.encode())
        os.fsync(fd)
        sync_directory(target.parent)
        yield
    finally:
        os.close(fd)


@contextmanager
def left_behind(target: Path) -> Iterator[Intent | None]:
    """Yield the record of a killed install under its lock, None when there is none or it was killed while writing it.

    Raises TargetBusy while its installer lives, TargetError for a record of a newer version.
    """
    record = record_path(target)
    try:
        fd = os.open(record, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as err:
        raise TargetError(
            f"{record}: cannot be read ({err.strerror})", hint="run as the user of the killed restore, or root"
        ) from err
    try:
        _lock(fd, target)
        intent = _decode(os.read(fd, _BYTES), record)
        if intent is None:  # nothing is done before the record is whole and durable
            forget_intent(target)
        yield intent
    finally:
        os.close(fd)


def forget_intent(target: Path) -> None:
    """Remove the record, durably."""
    record_path(target).unlink(missing_ok=True)
    sync_directory(target.parent)


def _lock(fd: int, target: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        raise _busy(target) from err
    # Between the opening and the lock another process may have settled and removed the record.
    if identity(record_path(target)) != (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
        raise _busy(target)


def _busy(target: Path) -> TargetBusy:
    return TargetBusy(f"{target}: another restore is being installed here", hint="wait for it to end, then try again")


def _decode(data: bytes, record: Path) -> Intent | None:
    try:
        fields = json.loads(data)
        version = fields.pop("version")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if version != _VERSION:
        raise TargetError(f"{record}: written by a newer version ({version})", hint="finish it with the newer version")
    intent = Intent(**fields)
    if any("/" in name for name in (intent.target, intent.temp, intent.quarantine)):
        raise TargetError(f"{record}: names files outside its directory", hint="examine it, then delete it")
    return intent
