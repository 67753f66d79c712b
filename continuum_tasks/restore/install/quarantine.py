"""The databases that restores replaced: which are kept beside a target, and one as a single file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from continuum_tasks.errors import TargetError
from continuum_tasks.restore.install.fold import held_folded
from continuum_tasks.sqlite import raw
from continuum_tasks.sqlite.raw import SIDECARS

_STAMP = re.compile(r"(\d{8}T\d{6}Z)(?:-(\d{1,6}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """A replaced database with its sidecars, kept in a directory of its own since `at`."""

    path: Path
    at: datetime
    file: Path
    size_bytes: int


def quarantines(target: Path) -> tuple[Quarantine, ...]:
    """Return those kept beside a target, newest first; an empty or foreign directory is none."""
    found = []
    prefix = f".{target.name}.quarantine-"
    for path in target.parent.iterdir() if target.parent.is_dir() else ():
        stamp = _STAMP.fullmatch(path.name.removeprefix(prefix)) if path.name.startswith(prefix) else None
        file = path / target.name
        if stamp is None or path.is_symlink() or file.is_symlink() or not file.is_file():
            continue
        try:
            at = datetime.strptime(stamp[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            continue
        size_bytes = sum(entry.stat().st_size for entry in path.iterdir())
        found.append((at, int(stamp[2] or 1), Quarantine(path=path, at=at, file=file, size_bytes=size_bytes)))
    return tuple(quarantine for _, _, quarantine in sorted(found, key=lambda entry: entry[:2], reverse=True))


def copy_out(quarantine: Quarantine, temp: Path) -> tuple[str, ...]:
    """Copy the database to `temp`, which must not exist, with what its -wal or journal holds folded in; returns warnings.

    The quarantine stays as it is: it may be evidence, and a killed undo must find it again.
    """
    raw.copy_raw(quarantine.file, temp)
    beside = []
    for suffix in SIDECARS:
        source = quarantine.file.with_name(quarantine.file.name + suffix)
        if suffix != "-shm" and source.is_file():  # an index of the -wal, made anew
            beside.append(temp.with_name(temp.name + suffix))
            raw.copy_raw(source, beside[-1])
    with held_folded(temp) as folded:
        pass
    left = [name for name in beside if name.exists() and name.stat().st_size]
    for suffix in SIDECARS:
        temp.with_name(temp.name + suffix).unlink(missing_ok=True)
    if folded or not left:
        return ()
    return (f"SQLite cannot read the replaced file: its -wal or journal stays in {quarantine.path} and is not put back",)


def unused_name(target: Path, now: datetime) -> Path:
    """Return the directory that a database replaced now is to be kept in; it is not made."""
    name, n = f".{target.name}.quarantine-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}", 1
    while os.path.lexists(target.with_name(name if n == 1 else f"{name}-{n}")):
        n += 1
    return target.with_name(name if n == 1 else f"{name}-{n}")


def newest_quarantine(target: Path) -> Quarantine:
    """Return what an undo puts back. Raises TargetError when nothing is kept."""
    found = quarantines(target)
    if not found:
        raise TargetError(f"{target}: no replaced file is kept beside it", hint="only a restore with --overwrite keeps one")
    return found[0]
