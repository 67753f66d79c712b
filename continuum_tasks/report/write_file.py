"""Write a report as a file: whole or not at all, readable by its owner only, and never over anything but a report."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from continuum_tasks.errors import NoSpace, TargetError, TargetExists
from continuum_tasks.report.html.document import BEGIN


def write_report_file(path: Path, page: str, *, nonce: str) -> None:
    """Write a page in one step (0600), durable on return. A report that is there is replaced, any other file is refused.

    Raises TargetExists, NoSpace, TargetError.
    """
    temporary = path.parent / f".continuum-report-{nonce}.tmp"
    try:
        _refuse_other(path)
        _write(temporary, page.encode("utf-8"))
        temporary.replace(path)
        _sync(path.parent)
    except OSError as err:
        failure = NoSpace if err.errno in (errno.ENOSPC, errno.EDQUOT) else TargetError
        message = f"{path}: cannot be written: {(err.strerror or type(err).__name__).lower()}"
        raise failure(message, hint="check the directory, its permissions and its free space") from err
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_other(path: Path) -> None:
    if not (path.exists() or path.is_symlink()):
        return
    begin = b""
    if path.is_file() and not path.is_symlink():
        with path.open("rb") as file:
            begin = file.read(len(BEGIN))
    if begin != BEGIN.encode():
        raise TargetExists(f"{path}: is there and is not a report", hint="name another file: only a report is replaced")


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
