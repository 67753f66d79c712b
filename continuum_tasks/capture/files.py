"""capture/files.py: private files that are replaced whole."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from continuum_tasks.errors import ConfigError, NoSpace
from continuum_tasks.sqlite import directory


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
            directory.sync(path.parent)
    except OSError as err:
        with suppress(OSError):  # where nothing can be written, as on a disk that became read-only, nothing can be removed
            part.unlink(missing_ok=True)
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{path}: no space left for what was captured", hint="free space in state_dir") from err
        raise ConfigError(f"{path}: cannot be written ({err.strerror})", hint="check state_dir and its owner") from err


def make_directory(path: Path) -> Path:
    """Make a 0700 directory, and what is missing above it. Raises ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be made ({err.strerror})", hint="check state_dir and its owner") from err
    return path
