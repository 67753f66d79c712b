"""May a restored database be put at this path?"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from continuum_tasks.errors import NoSpace, SourceRefused, TargetBusy, TargetError, TargetExists
from continuum_tasks.sqlite import reserved, vfs
from continuum_tasks.sqlite.holders import Holder, describe_holders, holders, holders_of_deleted, others, unseen
from continuum_tasks.sqlite.mount_tables import MOUNT_THE_DIRECTORY, MountTables, read_mount_tables, refuse_second_name
from continuum_tasks.sqlite.plan.file_systems import refusal
from continuum_tasks.sqlite.raw import sidecars


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Permission bits, user and group of a database file."""

    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A path fit for a restore. `path` has its directory resolved; `ownership` is that of the file there, None if none."""

    path: Path
    ownership: Ownership | None


def check_target(target: Path, *, overwrite: bool, need_bytes: int) -> Target:
    """Refuse a path before the first byte is fetched; changes nothing. `need_bytes` is the size of the restored file.

    Raises TargetExists without `overwrite` (a lone -wal or -journal counts: it is data), NoSpace, or TargetError.
    """
    path = _in_real_directory(target)
    status = _status(path)
    _refuse_mounted(path)
    left = sidecars(path)
    if status is not None and not overwrite:
        raise TargetExists(f"{path}: exists", hint="give --overwrite to replace it (the old file is kept in quarantine)")
    if left and not overwrite:
        raise TargetExists(
            f"{path}: missing, but {left[0].name} is there and holds data of an older database",
            hint="move it away, or give --overwrite to keep it in quarantine",
        )
    if status is not None:
        reserved.check_folded(path)
    free = shutil.disk_usage(path.parent).free
    if free < need_bytes:
        raise NoSpace(f"{path}: restoring needs {need_bytes} bytes, {free} are free", hint=f"free space on {path.parent}")
    return Target(path=path, ownership=None if status is None else _ownership(status))


def refuse_shared(target: Path, *, accepted: Collection[str], tables: MountTables | None = None) -> None:
    """Refuse to replace a database on a file system where nobody can prove that it is unused. Raises TargetError.

    A name that is new there is fine: nobody has it open. `tables` stand for what /proc says of mounts.
    """
    path = Path(os.path.realpath(target.parent)) / target.name
    if not (os.path.lexists(path) or sidecars(path)):
        return
    refused = refusal((tables or read_mount_tables()).kind(path), accepted)
    if refused is not None:
        raise TargetError(f"{path}: {refused[0]}, so nothing proves that it is unused", hint=refused[1])


def prove_unused(target: Path) -> None:
    """Take and release the proof that nobody uses the database: SQLite's EXCLUSIVE lock and no descriptor, seen or counted.

    A missing file is in use while somebody has its sidecars open, or the file that was deleted there.
    Raises TargetBusy naming the processes seen, TargetError without the right to lock.
    """
    refuse_holders(target, holders_of_deleted(target))
    if target.exists():
        with held_unused(target):
            pass
        return
    for sidecar in sidecars(target):
        refuse_holders(target, holders(sidecar.stat()))


@contextmanager
def held_unused(target: Path) -> Iterator[None]:
    """Hold that proof for a file SQLite cannot read, or need not. Raises TargetBusy, TargetError."""
    status = target.stat()
    refuse_holders(target, holders(status))  # before our own descriptor is there: this process counts as well
    with locked_errors(target), vfs.exclusive(target):
        refuse_others(target, status)
        yield


def refuse_holders(target: Path, found: tuple[Holder, ...]) -> None:
    """Raise TargetBusy when any process is given."""
    if found:
        raise TargetBusy(
            f"{target}: in use by {describe_holders(found)}",
            hint="stop the service (systemctl stop continuum), then run the restore again",
        )


def refuse_others(target: Path, status: os.stat_result) -> None:
    """Raise TargetBusy when anybody but this process, which has the database open once, has it open."""
    refuse_holders(target, others(holders(status)) or unseen(status))


@contextmanager
def locked_errors(target: Path) -> Iterator[None]:
    """Turn SQLite's errors about locks and permissions into ours."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError, apsw.ProtocolError) as err:
        raise TargetBusy(
            f"{target}: locked by {describe_holders(others(holders(target.stat())))}",
            hint="stop the service (systemctl stop continuum), then run the restore again",
        ) from err
    except apsw.FullError as err:
        raise NoSpace(f"{target}: disk full while its -wal was applied", hint=f"free space on {target.parent}") from err
    except (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as err:
        raise TargetError(
            f"{target}: cannot be opened or locked ({err})",
            hint="run as its owner or as root, on a file system that is not read-only",
        ) from err


def _in_real_directory(target: Path) -> Path:
    if target.name in ("", ".."):
        raise TargetError(f"{target}: names no file", hint="add the file's name")
    try:
        str(target).encode()
    except UnicodeEncodeError as err:
        raise TargetError(f"{target!r}: not UTF-8", hint="give a path in UTF-8") from err
    if target.is_symlink():
        raise TargetError(f"{target}: a symlink", hint=f"give the real path: {os.path.realpath(target)}")
    try:
        folder = target.absolute().parent.resolve(strict=True)
    except (OSError, RuntimeError) as err:
        raise TargetError(f"{target}: its directory does not exist", hint=f"mkdir -p {target.parent}") from err
    if not folder.is_dir():
        raise TargetError(f"{target}: {folder} is not a directory", hint="correct the path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TargetError(
            f"{target}: no permission to write in {folder}", hint="run as its owner or as root, or mount it writable"
        )
    return folder / target.name


def _refuse_mounted(path: Path) -> None:
    """Refuse a name that no file can be renamed to, and one whose file others use by another name."""
    tables = read_mount_tables()
    if tables.is_mount_point(path):
        raise TargetError(f"{path}: mounted by itself, so no file can be put in its place", hint=MOUNT_THE_DIRECTORY)
    try:
        refuse_second_name(path, tables)
    except SourceRefused as err:
        raise TargetError(err.message, hint=err.hint) from err


def _status(path: Path) -> os.stat_result | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise TargetError(f"{path}: not a regular file", hint="give the path of a database file")
    return status


def _ownership(status: os.stat_result) -> Ownership:
    return Ownership(mode=stat.S_IMODE(status.st_mode) & 0o777, uid=status.st_uid, gid=status.st_gid)
