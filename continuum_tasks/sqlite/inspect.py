"""sqlite/inspect.py: look at a source database before anything is done with it, and refuse what cannot be backed up."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import apsw

from continuum_tasks.errors import SourceMissing, SourceRefused
from continuum_tasks.sqlite import vfs
from continuum_tasks.sqlite.header import SAMPLE_BYTES, parse_header
from continuum_tasks.sqlite.intent import record_path
from continuum_tasks.sqlite.mounts import network_file_system

_MOUNTS = Path("/proc/self/mounts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A database file fit for backup, as it was when looked at. `path` is resolved; `mode` are the permission bits."""

    path: Path
    size_bytes: int
    page_size: int
    reserved_bytes: int
    wal: bool
    wal_bytes: int
    mode: int
    uid: int
    gid: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Imprint:
    """What shows later whether somebody wrote to the main file: its header's counter and its time of change."""

    wal: bool
    change_counter: int
    size_bytes: int
    modified_ns: int


def imprint(path: Path) -> Imprint:
    """Take the imprint of a database file; takes no lock. Raises SourceMissing, SourceRefused."""
    resolved = _resolve(path)
    status = resolved.stat()
    try:
        header = parse_header(vfs.read_start(resolved, SAMPLE_BYTES), name=str(resolved))
    except apsw.CantOpenError as err:
        raise SourceRefused(f"{resolved}: cannot be opened", hint="check permissions and mount") from err
    return Imprint(
        wal=header.wal, change_counter=header.change_counter, size_bytes=status.st_size, modified_ns=status.st_mtime_ns
    )


def inspect(path: Path, *, mounts: str | None = None) -> Source:
    """Look at a live database without touching it: no connection, no lock taken, none of this process's locks dropped.

    `mounts` stands for the text of /proc/self/mounts. Raises SourceMissing, or SourceRefused naming file and remedy.
    """
    resolved = _resolve(path)
    status = resolved.stat()
    _check_kind(resolved, status)
    _check_file_system(resolved, mounts)
    if not os.access(resolved, os.R_OK):
        raise SourceRefused(f"{resolved}: no permission to read", hint=f"run as its owner (uid {status.st_uid}) or as root")
    try:
        start = vfs.read_start(resolved, SAMPLE_BYTES)
    except apsw.Error as err:
        raise SourceRefused(f"{resolved}: cannot be read ({err})", hint="check permissions, mount and disk") from err
    header = parse_header(start, name=str(resolved))
    return Source(
        path=resolved,
        size_bytes=status.st_size,
        page_size=header.page_size,
        reserved_bytes=header.reserved_bytes,
        wal=header.wal,
        wal_bytes=wal_bytes(resolved),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        device=status.st_dev,
        inode=status.st_ino,
    )


def wal_bytes(path: Path) -> int:
    """Return the size of the database's -wal file, 0 without one."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _resolve(path: Path) -> Path:
    try:
        resolved = path.resolve(strict=True)
        os.fspath(resolved).encode()
    except (FileNotFoundError, NotADirectoryError) as err:
        raise SourceMissing(f"{path}: no such file", hint="correct the path, here or in backup.conf") from err
    except PermissionError as err:
        raise SourceRefused(f"{path}: no permission to reach it", hint="run as the database's owner or as root") from err
    except (RuntimeError, OSError) as err:
        raise SourceRefused(f"{path}: cannot be resolved", hint="a symlink points in a circle or the path is too long") from err
    except UnicodeEncodeError as err:
        raise SourceRefused(f"{path!r}: name is not UTF-8", hint="SQLite opens UTF-8 names only: rename the file") from err
    return resolved


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise SourceRefused(f"{path}: a directory", hint="name the database file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise SourceRefused(f"{path}: not a regular file", hint="name the database file itself")
    if status.st_nlink > 1 and record_path(path).exists():
        raise SourceRefused(
            f"{path}: a restore over it was interrupted", hint="run that restore again: it finishes or undoes the old one first"
        )
    if status.st_nlink > 1:
        raise SourceRefused(
            f"{path}: hard-linked ({status.st_nlink} names)",
            hint="SQLite keeps one -wal or -journal per name, so two names corrupt it: leave one (`find DIR -samefile FILE`)",
        )


def _check_file_system(path: Path, mounts: str | None) -> None:
    if mounts is None:
        mounts = _MOUNTS.read_text(errors="surrogateescape") if _MOUNTS.exists() else ""
    kind = network_file_system(path, mounts)
    if kind:
        raise SourceRefused(
            f"{path}: on a network file system ({kind})",
            hint="locks do not hold there: run the agent on the host that has the disk, or move the database to a local one",
        )
