"""Copy the bytes of a database's files as they are, without dropping a lock or changing anything."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import apsw

from continuum_tasks.errors import NoSpace, SourceRefused
from continuum_tasks.sqlite import vfs

_READ_BYTES = 1024 * 1024
_SECTOR_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One file's copy: its name, size, SHA-256 (hex), and the offsets where the disk could not be read (zeros there)."""

    name: str
    size_bytes: int
    sha256: str
    unreadable: tuple[int, ...]


def copy_raw(source: Path, copied: Path) -> Copied:
    """Copy one file, durably, to a new 0600 file; what the disk cannot read becomes zeros and is named by its offset.

    It is read through SQLite's file layer: an ordinary descriptor, closed, would drop this process's locks on it.
    Raises SourceRefused, NoSpace.
    """
    digest, unreadable = hashlib.sha256(), []
    descriptor = os.open(copied, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with vfs.open_locked_file(source) as file, os.fdopen(descriptor, "wb") as out:
            size_bytes = file.xFileSize()
            for offset in range(0, size_bytes, _READ_BYTES):
                data, bad = _read(file, offset, min(_READ_BYTES, size_bytes - offset))
                unreadable.extend(bad)
                digest.update(data)
                out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except apsw.CantOpenError as err:
        raise SourceRefused(f"{source}: cannot be opened for reading", hint="run as its owner or as root") from err
    except OSError as err:
        raise NoSpace(f"{copied}: cannot be written ({err.strerror})", hint=f"free space on {copied.parent}") from err
    return Copied(name=copied.name, size_bytes=copied.stat().st_size, sha256=digest.hexdigest(), unreadable=tuple(unreadable))


def _read(file: apsw.VFSFile, offset: int, n_bytes: int) -> tuple[bytes, list[int]]:
    try:
        return file.xRead(n_bytes, offset), []
    except apsw.IOError:
        pieces, bad = [], []
    for at in range(offset, offset + n_bytes, _SECTOR_BYTES):
        wanted = min(_SECTOR_BYTES, offset + n_bytes - at)
        try:
            pieces.append(file.xRead(wanted, at).ljust(wanted, b"\0"))
        except apsw.IOError:
            pieces.append(bytes(wanted))
            bad.append(at)
    return b"".join(pieces), bad


SIDECARS = ("-wal", "-shm", "-journal")


def sync_directory(directory: Path) -> None:
    """Make renames, links and unlinks in `directory` survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sidecars(path: Path) -> tuple[Path, ...]:
    """Return the -wal, -shm and -journal that exist beside a database."""
    names = (path.with_name(path.name + suffix) for suffix in SIDECARS)
    return tuple(name for name in names if os.path.lexists(name))


def identity(path: Path) -> tuple[int, int] | None:
    """Return (device, inode) of the name itself, None when it is not there."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def record_path(target: Path) -> Path:
    """Return the name of the record for this target."""
    return target.with_name(f".{target.name}.continuum-restore")
