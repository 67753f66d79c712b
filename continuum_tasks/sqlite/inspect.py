"""Look at a source database before anything is done with it, and refuse what cannot be backed up."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import apsw

from continuum_tasks.errors import SourceMissing, SourceRefused
from continuum_tasks.sqlite import vfs
from continuum_tasks.sqlite.header import SAMPLE_BYTES, parse_header
from continuum_tasks.sqlite.mount_tables import MountTables, place_remark, read_mount_tables, refuse_place
from continuum_tasks.sqlite.plan.formats import FileKind, kind_refusal
from continuum_tasks.sqlite.raw import record_path


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSource:
    """A database file fit for backup, as it was when looked at. `path` is resolved; `mode` are the permission bits.

    `remark` is a warning about where it lies, empty when there is none.
    """

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
    remark: str = ""


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


def inspect(path: Path, *, accepted: Collection[str] | None = (), tables: MountTables | None = None) -> DatabaseSource:
    """Look at a live database without touching it: no connection, no lock taken, none of this process's locks dropped.

    `accepted` are types of file systems that the operator answers for, None for any; `tables` stand for what /proc says of
    mounts. Raises SourceMissing, or SourceRefused naming file and remedy.
    """
    resolved = _resolve(path)
    status = resolved.stat()
    _check_kind(resolved, status)
    tables = read_mount_tables() if tables is None else tables
    refuse_place(resolved, tables, accepted=accepted)
    if not os.access(resolved, os.R_OK):
        raise SourceRefused(f"{resolved}: no permission to read", hint=f"run as its owner (uid {status.st_uid}) or as root")
    try:
        start = vfs.read_start(resolved, SAMPLE_BYTES)
    except apsw.Error as err:
        raise SourceRefused(f"{resolved}: cannot be read ({err})", hint="check permissions, mount and disk") from err
    header = parse_header(start, name=str(resolved))
    return DatabaseSource(
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
        remark=place_remark(resolved, tables, accepted=accepted),
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


_KINDS = (
    (FileKind.FILE, stat.S_ISREG),
    (FileKind.DIRECTORY, stat.S_ISDIR),
    (FileKind.FIFO, stat.S_ISFIFO),
    (FileKind.SOCKET, stat.S_ISSOCK),
)


def _entries(path: Path) -> tuple[str, ...]:
    try:
        return tuple(entry.name for entry in path.iterdir())
    except OSError:
        return ()


def _check_kind(path: Path, status: os.stat_result) -> None:
    kind = next((kind for kind, is_kind in _KINDS if is_kind(status.st_mode)), FileKind.DEVICE)
    foreign = kind_refusal(kind, _entries(path) if kind is FileKind.DIRECTORY else ())
    if foreign is not None:
        raise SourceRefused(f"{path}: {foreign.what}", hint=foreign.remedy)
    if status.st_nlink > 1 and record_path(path).exists():
        raise SourceRefused(
            f"{path}: a restore over it was interrupted", hint="run that restore again: it finishes or undoes the old one first"
        )
    if status.st_nlink > 1:
        raise SourceRefused(
            f"{path}: hard-linked ({status.st_nlink} names)",
            hint="SQLite keeps one -wal or -journal per name, so two names corrupt it: leave one (`find DIR -samefile FILE`)",
        )
