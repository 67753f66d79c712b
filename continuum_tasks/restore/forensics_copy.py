"""Copy a database with its sidecars as they are, for whoever looks into what happened; the source is never changed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from continuum_tasks.errors import ContinuumError, NoSpace, SourceMissing, SourceRefused, TargetError
from continuum_tasks.model import Progress
from continuum_tasks.sqlite import raw
from continuum_tasks.sqlite.holders import holders, others
from continuum_tasks.sqlite.inspect import imprint
from continuum_tasks.sqlite.mount_tables import read_mount_tables
from continuum_tasks.sqlite.raw import sidecars, sync_directory

SUMS, NOTE = "SHA256SUMS", "NOTE.txt"
_MARGIN_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ForensicsRequest:
    """Which file, into which directory (made 0700 when missing), at what time, on which host, by whom."""

    source: Path
    to: Path
    now: datetime
    host: str
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForensicsCopy:
    """The copy: a directory with the files, their SHA-256 list and a note. `remarks` is what the note says of the copying."""

    directory: str
    source: str
    files: tuple[raw.Copied, ...]
    in_use_by: tuple[str, ...]
    remarks: tuple[str, ...]


def copy_for_forensics(request: ForensicsRequest) -> Generator[Progress, None, ForensicsCopy]:
    """Copy the main file, -wal, -shm and -journal; yields progress.

    Takes no lock, so nobody waits; a file that was written meanwhile is noted as torn. Raises SourceMissing,
    SourceRefused, TargetError, NoSpace.
    """
    source = request.source.absolute()
    found = _files(source)
    total = sum(path.stat().st_size for path in found)
    yield Progress(phase="copy", total_bytes=total)
    place = _make(request, need_bytes=total)
    copied: list[raw.Copied] = []
    remarks: list[str] = []
    in_use_by = tuple(map(str, others(holders(source.stat())))) if source.exists() else ()
    before = {path: path.stat().st_mtime_ns for path in found}
    for path in found:
        if _held_here(path):
            remarks.append(f"{path.name}: skipped: this process uses it, and reading it would drop its locks")
            continue
        copied.append(raw.copy_raw(path, place / path.name))
        remarks.extend(
            f"{path.name}: bytes {at} to {at + 4095} cannot be read; zeros stand there" for at in copied[-1].unreadable
        )
        yield Progress(phase="copy", n_bytes=sum(one.size_bytes for one in copied), total_bytes=total, detail=path.name)
    remarks.extend(_torn(before))
    remarks.extend(_elsewhere(source))
    evidence = ForensicsCopy(
        directory=str(place), source=str(source), files=tuple(copied), in_use_by=in_use_by, remarks=tuple(remarks)
    )
    _write(place / SUMS, "".join(f"{one.sha256}  {one.name}\n" for one in copied))
    _write(place / NOTE, _note(request, evidence))
    sync_directory(place)
    sync_directory(place.parent)
    return evidence


def _files(source: Path) -> tuple[Path, ...]:
    found = [path for path in (source, *sidecars(source)) if os.path.lexists(path)]
    if not found:
        raise SourceMissing(f"{source}: no such file", hint="name a database of backup.conf, or the path of a file")
    for path in found:
        if not stat.S_ISREG(path.lstat().st_mode):
            kind = "a symlink" if path.is_symlink() else "not a regular file"
            raise SourceRefused(f"{path}: {kind}", hint=f"name the file itself: {os.path.realpath(path)}")
    return tuple(found)


def _held_here(path: Path) -> bool:
    """Tell whether this process has a -shm open: unlike the main file's, its locks go with any descriptor that closes."""
    return path.name.endswith("-shm") and any(holder.pid == os.getpid() for holder in holders(path.stat()))


def _make(request: ForensicsRequest, *, need_bytes: int) -> Path:
    name = f"{request.source.name}-{request.now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    try:
        request.to.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(request.to).free
        if free < need_bytes + _MARGIN_BYTES:
            raise NoSpace(f"{request.to}: the copy needs {need_bytes} bytes, {free} are free", hint="name another with --to")
        for n in range(1, 1000):
            place = request.to / (name if n == 1 else f"{name}-{n}")
            if not os.path.lexists(place):
                place.mkdir(mode=0o700)
                return place
    except OSError as err:
        raise TargetError(
            f"{request.to}: no directory can be made there ({err.strerror})", hint="name another with --to"
        ) from err
    raise TargetError(f"{request.to}: full of copies of this second", hint="name another with --to")


def _elsewhere(source: Path) -> list[str]:
    name = read_mount_tables().name_by_mount(source.resolve())
    if name is None:
        return []
    return [f"{source.name}: mounted by itself, at {name}: its service's -wal or -journal may lie in another directory"]


def _torn(before: dict[Path, int]) -> list[str]:
    found = []
    for path, modified_ns in before.items():
        try:
            if path.stat().st_mtime_ns != modified_ns and not path.name.endswith("-shm"):
                found.append(f"{path.name}: written while it was copied: the copy may be torn between two states")
        except FileNotFoundError:
            found.append(f"{path.name}: removed while the files were copied")
    return found


def _note(request: ForensicsRequest, evidence: ForensicsCopy) -> str:
    source = Path(evidence.source)
    lines = [
        f"Copy of {source} and its sidecars, as they were; nothing was recovered or changed.",
        f"made {request.now.astimezone(UTC).isoformat()} on {request.host} by {request.user}",
        f"open in: {', '.join(evidence.in_use_by) or 'no process seen'}",
        f"header: {_header(source)}",
        "",
    ]
    for one in evidence.files:
        status = source.with_name(one.name).lstat() if os.path.lexists(source.with_name(one.name)) else None
        facts = (
            ""
            if status is None
            else (
                f", inode {status.st_ino}, mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}, gid {status.st_gid},"
                f" modified {datetime.fromtimestamp(status.st_mtime, UTC).isoformat()}"
            )
        )
        lines.append(f"{one.name}: {one.size_bytes} bytes, SHA-256 {one.sha256}{facts}")
    lines += ["", *evidence.remarks, *([""] if evidence.remarks else [])]
    lines.append("Work on a copy of this copy: opening it with SQLite applies the -wal or rolls back the -journal.")
    return "\n".join(lines) + "\n"


def _header(source: Path) -> str:
    try:
        found = imprint(source)
    except ContinuumError as err:
        return err.message
    return f"{'WAL' if found.wal else 'rollback journal'}, change counter {found.change_counter}"


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
