"""Read bounded text files and create private ones that never replace what is there."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from continuum_tasks.errors import ConfigError

MAX_BYTES = 1024 * 1024


def read_text(path: Path) -> str:
    """Return the text of a .conf file of at most 1 MiB in UTF-8. Raises ConfigError naming the file."""
    try:
        data = read_regular(path, max_bytes=MAX_BYTES)
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: there is no such file", hint="run `continuum init`, or name another --config-dir") from err
    except OSError as err:
        raise ConfigError(
            f"{path}: cannot be read: {system_reason(err)}", hint="make it a regular file this user may read"
        ) from err
    except ValueError as err:
        raise ConfigError(f"{path}: {err}", hint="a .conf file is a small regular text file") from err
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise ConfigError(f"{path}:{line}: byte {data[err.start]:#04x} is not UTF-8", hint="save the file as UTF-8") from err


def read_regular(path: Path, *, max_bytes: int, flags: int = 0) -> bytes:
    """Return the bytes of a regular file. Raises OSError, or ValueError when it is something else or longer."""
    # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > max_bytes:
        raise ValueError(f"is longer than {max_bytes} bytes")
    return data


def create_file(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600, whole or not at all, durable on return. Raises FileExistsError and other OSErrors."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.link(temporary, path)  # unlike rename, link fails when the name is taken
    finally:
        Path(temporary).unlink()
    sync_config_directory(path.parent)


def replace_file(path: Path, data: bytes, *, expected: bytes) -> None:
    """Put `data` in the place of `expected` in one rename, mode and owner kept, durable on return.

    Links are followed. Raises OSError, also when the file is read-only or does not hold `expected` any more.
    """
    real = path.resolve(strict=True)
    status = real.stat()
    if not status.st_mode & 0o222 or not os.access(real, os.W_OK):  # the superuser may, and is not meant to either
        raise PermissionError(errno.EACCES, "the file is read-only", str(path))
    fd, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as file:
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, status.st_uid, status.st_gid)
            os.fchmod(fd, stat.S_IMODE(status.st_mode))
            file.write(data)
            file.flush()
            os.fsync(fd)
        if read_regular(real, max_bytes=MAX_BYTES) != expected:
            raise OSError(errno.EBUSY, "somebody else changed it in this moment", str(path))
        Path(temporary).replace(real)
    finally:
        Path(temporary).unlink(missing_ok=True)
    sync_config_directory(real.parent)


def make_directory(path: Path) -> bool:
    """Create a directory with mode 0700 (parents as the umask has them); False when it was there. Raises OSError."""
    if path.is_dir():
        return False
    path.mkdir(mode=0o700, parents=True)
    path.chmod(0o700)  # whatever the umask
    sync_config_directory(path.parent)
    return True


def mode_of(path: Path) -> int:
    """Return the mode bits with the file type, links followed; 0 when there is nothing this user can see."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def sync_config_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def system_reason(err: OSError) -> str:
    """Say what the system said, in lower case and without the path."""
    return (err.strerror or type(err).__name__).lower()
