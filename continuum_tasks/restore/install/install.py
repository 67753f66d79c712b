"""Put a proven restored file in a database's place; a kill at any step leaves the old or the new (ADR 3).

record -> a guard folds the old file's -wal or journal into it and holds it -> quarantine -> its sidecars gone -> one rename
-> record gone; the guard keeps everybody who has the old file open out of both until nobody has (ADR 8)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from continuum_tasks.errors import TargetBusy, TargetExists
from continuum_tasks.failpoints import reach
from continuum_tasks.restore.install.guarded import guarded
from continuum_tasks.restore.install.intent import Intent, forget_intent, left_behind, recorded
from continuum_tasks.restore.install.target import Ownership, Target, check_target, prove_unused
from continuum_tasks.sqlite import raw, vfs
from continuum_tasks.sqlite.check import opens
from continuum_tasks.sqlite.holders import Holder, describe_holders, holders, others

__all__ = [
    "InstallOutcome",
    "Installed",
    "Ownership",
    "Recovered",
    "Target",
    "check_target",
    "install",
    "prove_unused",
    "recover",
]

_COPY_BYTES = 1024 * 1024


class InstallOutcome(StrEnum):
    FINISHED = "finished"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The new database is in place, durably, without sidecars.

    `quarantine` holds the old file with its sidecars, None when nothing was there. `findings`: why SQLite cannot open it.
    `stale` names processes that opened the old file in the last instant: the process `guard` (0 when none was needed) keeps
    them out of both files for as long as they have it open.
    """

    path: Path
    quarantine: Path | None
    findings: tuple[str, ...]
    stale: tuple[Holder, ...]
    guard: int
    recovered: Recovered | None

    @property
    def stale_warnings(self) -> tuple[str, ...]:
        """Say whom to restart and what keeps them from harm until then, empty when nobody was late."""
        if not self.stale:
            return ()
        late = (f"restart {holder}: it opened the old file in the last instant and is kept out" for holder in self.stale)
        return (*late, f"pid {self.guard} (continuum-guard) keeps them out and ends once they have closed it: leave it running")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What became of a killed install; `quarantine` is what it left there that is nowhere else, None for nothing."""

    outcome: InstallOutcome
    quarantine: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Displaced:
    quarantine: Path | None
    stale: tuple[Holder, ...]
    guard: int


def install(temp: Path, target: Path, *, overwrite: bool, now: datetime, ownership: Ownership | None = None) -> Installed:
    """Replace the database at `target` by `temp`, a private, proven file in the same directory.

    First settles an older, killed install. The new file gets mode and owner of the one it replaces, else `ownership`,
    as far as this user may give them. On any error the old database is in place, folded, and `temp` is left to the
    caller. Raises the TargetError family; see `check_target`, `prove_unused`.
    """
    recovered = recover(target, keep=temp)
    checked = check_target(target, overwrite=overwrite, need_bytes=0)
    if temp.absolute().parent.resolve() != checked.path.parent:
        raise RuntimeError(f"{temp} is not in the directory of {target}")
    prove_unused(checked.path)
    intent = _intent(temp, checked.path, now)
    with recorded(checked.path, intent), _settled(checked.path, intent):
        reach("install.intent_written")
        displaced, findings = _replace(temp, checked, intent, ownership)
    return Installed(
        path=checked.path,
        quarantine=displaced.quarantine,
        findings=findings,
        stale=displaced.stale,
        guard=displaced.guard,
        recovered=recovered,
    )


def recover(target: Path, *, keep: Path | None = None) -> Recovered | None:
    """Finish or undo an install that was killed, by what is on disk; None when there was none. May be repeated.

    `keep` names a temporary file that is in use again and stays. Raises TargetBusy while another install is at work.
    """
    if target.is_symlink() or not target.parent.is_dir():
        return None  # no install began here; `check_target` says what is wrong
    path = target.absolute().parent.resolve() / target.name
    with left_behind(path) as intent:
        if intent is None:
            return None
        recovered = _settle(path, intent)
        temp = path.with_name(intent.temp)
        if _inode(temp) == intent.temp_inode and (keep is None or keep.name != temp.name):
            temp.unlink()
        forget_intent(path)
    return recovered


def _intent(temp: Path, path: Path, now: datetime) -> Intent:
    name = f".{path.name}.quarantine-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    n = 1
    while os.path.lexists(path.with_name(name if n == 1 else f"{name}-{n}")):
        n += 1
    return Intent(
        target=path.name,
        temp=temp.name,
        temp_inode=temp.stat().st_ino,
        old_inode=_inode(path),
        quarantine=name if n == 1 else f"{name}-{n}",
        pid=os.getpid(),
        begun_at=now.astimezone(UTC).isoformat(),
    )


def _replace(temp: Path, target: Target, intent: Intent, ownership: Ownership | None) -> tuple[_Displaced, tuple[str, ...]]:
    path = target.path
    _give(temp, target.ownership or ownership)
    # The new file is locked from before it bears the name until it is checked: a service that starts in between waits,
    # instead of writing under the check, or making a journal that the old one's connection deletes as it closes.
    with vfs.exclusive(temp):
        # A worker that was stopped in the middle of a chunk, and given up, would write into the database once it wakes.
        stalled = others(holders(temp.stat()))
        if stalled:
            raise TargetBusy(
                f"{path}: the restored file is still open in {describe_holders(stalled)}", hint="run the restore again"
            )
        displaced = _displace(temp, path, intent, fresh=target.ownership is None)
        reach("install.renamed")
        raw.sync_directory(path.parent)
        reach("install.directory_synced")
        findings = opens(path)
        reach("install.checked")
    return displaced, findings


def _displace(temp: Path, path: Path, intent: Intent, *, fresh: bool) -> _Displaced:
    with nullcontext() if fresh else guarded(path) as guard:
        reach("install.old_folded")
        quarantine = _quarantine(path, intent)
        reach("install.old_quarantined")
        for sidecar in raw.sidecars(path):
            sidecar.unlink()
        raw.sync_directory(path.parent)
        reach("install.sidecars_gone")
        if guard is not None:
            guard.check()
        _rename(temp, path, fresh=fresh)
        if guard is None:
            return _Displaced(quarantine=quarantine, stale=(), guard=0)
        return _Displaced(quarantine=quarantine, stale=guard.kept_out(), guard=guard.pid)


def _rename(temp: Path, path: Path, *, fresh: bool) -> None:
    if not fresh:
        temp.rename(path)
        return
    try:
        path.hardlink_to(temp)  # unlike a rename this cannot overwrite what appeared meanwhile
    except FileExistsError as err:
        raise TargetExists(f"{path}: appeared during the restore", hint="give --overwrite to replace it") from err
    except OSError:  # no hard links on this file system
        if os.path.lexists(path):
            raise TargetExists(f"{path}: appeared during the restore", hint="give --overwrite to replace it") from None
        temp.rename(path)
        return
    temp.unlink()


def _give(temp: Path, ownership: Ownership | None) -> None:
    """Set owner and mode as far as permitted; a group that cannot be given gets no rights."""
    if ownership is None:
        return
    fd = os.open(temp, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = ownership.mode & 0o777
        for uid, gid in ((-1, ownership.gid), (ownership.uid, -1)):
            try:
                os.fchown(fd, uid, gid)
            except PermissionError:
                mode &= ~0o070 if uid == -1 else 0o777
        os.fchmod(fd, mode)
        os.fsync(fd)
    finally:
        os.close(fd)


def _quarantine(path: Path, intent: Intent) -> Path | None:
    """Give the old file and its sidecars a second name in a 0700 directory; None when there is nothing old."""
    old = [name for name in (path, *raw.sidecars(path)) if os.path.lexists(name)]
    if not old:
        return None
    quarantine = path.with_name(intent.quarantine)
    quarantine.mkdir(mode=0o700)
    for name in old:
        try:
            (quarantine / name.name).hardlink_to(name)
        except OSError:  # no hard links on this file system
            _copy(name, quarantine / name.name)
    raw.sync_directory(quarantine)
    raw.sync_directory(path.parent)
    return quarantine


def _copy(name: Path, copy: Path) -> None:
    # Through SQLite's file layer: an ordinary descriptor, closed, would drop the lock we hold on the old database.
    with vfs.open_locked_file(name) as file, copy.open("xb") as out:
        copy.chmod(0o600)
        size_bytes = file.xFileSize()
        for offset in range(0, size_bytes, _COPY_BYTES):
            out.write(file.xRead(min(_COPY_BYTES, size_bytes - offset), offset))
        out.flush()
        os.fsync(out.fileno())
    shutil.copystat(name, copy)


@contextmanager
def _settled(path: Path, intent: Intent) -> Iterator[None]:
    """Remove the record however this ends: what is on disk says whether the install happened."""
    try:
        yield
    finally:
        _settle(path, intent)
        forget_intent(path)


def _settle(path: Path, intent: Intent) -> Recovered:
    quarantine = path.with_name(intent.quarantine)
    temp = path.with_name(intent.temp)
    if _inode(path) == intent.temp_inode:
        if _inode(temp) == intent.temp_inode:  # killed between the link and the unlink of a fresh target
            temp.unlink()
        raw.sync_directory(path.parent)
        return Recovered(outcome=InstallOutcome.FINISHED, quarantine=quarantine if quarantine.is_dir() else None)
    if quarantine.is_dir() and _inode(path) == intent.old_inode:
        _drop_second_names(quarantine, path)
    return Recovered(outcome=InstallOutcome.UNDONE, quarantine=quarantine if quarantine.is_dir() else None)


def _drop_second_names(quarantine: Path, path: Path) -> None:
    """Empty the quarantine of what still has its own name; a sidecar that is gone from there stays.

    It is never put back: all it held is in the main file, and the service may have written since.
    """
    for entry in list(quarantine.iterdir()):
        if os.path.lexists(path.with_name(entry.name)):
            entry.unlink()
    if not any(quarantine.iterdir()):
        quarantine.rmdir()


def _inode(path: Path) -> int:
    found = raw.identity(path)
    return found[1] if found else 0
