"""Where capture runs: this host, its directory, settings, clock and chance; all arguments."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.clock import Clock
from continuum_tasks.config import BackupSettings, CaptureSettings
from continuum_tasks.errors import ConfigError, NoSpace
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite.mount_tables import MountTables, read_mount_tables
from continuum_tasks.sqlite.raw import sync_directory
from continuum_tasks.units import microseconds

CAPTURE = "capture"  # in the state directory
EPOCH_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureContext:
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


def write_file(path: Path, data: bytes | bytearray, *, durable: bool) -> None:
    """Write a 0600 file whole, in place of the one that was there; `durable`: it survives a power cut on return.

    Raises NoSpace, or ConfigError when the directory cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(descriptor)
        part.rename(path)
        if durable:
            sync_directory(path.parent)
    except OSError as err:
        with suppress(OSError):  # where nothing can be written, as on a disk that became read-only, nothing can be removed
            part.unlink(missing_ok=True)
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{path}: no space left for what was captured", hint="free space in state_dir") from err
        raise ConfigError(f"{path}: cannot be written ({err.strerror})", hint="check state_dir and its owner") from err


def make_private_directory(path: Path) -> Path:
    """Make a 0700 directory, and what is missing above it. Raises ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be made ({err.strerror})", hint="check state_dir and its owner") from err
    return path
