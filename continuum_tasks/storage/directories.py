"""Files and directories below a local storage's root, reached through descriptors only.

Every step opens one name relative to the directory before it, with O_NOFOLLOW, so no symlink below the root is ever
followed, even one that appears in between.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from continuum_tasks.storage.protocol import ObjectInfo, is_key

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a stray named pipe must not wait for its writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def open_root(stack: ExitStack, root: Path) -> int:
    """Open the root itself, which may be a symlink: the operator chose it. Closed with `stack`."""
    return _closing(stack, os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def make_root(root: Path) -> None:
    """Make the root and what is missing above it, 0700, each durable."""
    for directory in reversed([p for p in (root, *root.parents) if not p.exists()]):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(0o700)
            directory.chmod(0o700)
        with ExitStack() as stack:
            os.fsync(open_root(stack, directory.parent))


def walk(stack: ExitStack, root: int, parts: list[str], *, make: bool) -> list[int]:
    """Open each directory on the way down; returns the root and all of them. Raises OSError ELOOP at a symlink."""
    directories = [root]
    for part in parts:
        directories.append(enter(stack, directories[-1], part, make=make))
    return directories


def enter(stack: ExitStack, parent: int, part: str, *, make: bool) -> int:
    """Open one directory, making it 0700 first when `make`. Closed with `stack`."""
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o700, dir_fd=parent)
            os.chmod(part, 0o700, dir_fd=parent)  # the umask may have taken rights away
    try:
        return _closing(stack, os.open(part, _DIRECTORY, dir_fd=parent))
    except NotADirectoryError as err:
        if stat.S_ISLNK(os.stat(part, dir_fd=parent, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part) from err
        raise


def open_file(stack: ExitStack, directory: int, file_name: str) -> int:
    """Open an ordinary file for reading. Raises FileNotFoundError for anything else that is not a symlink."""
    fd = _closing(stack, os.open(file_name, _READ, dir_fd=directory))
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise FileNotFoundError(file_name)
    return fd


def write_new(stack: ExitStack, directory: int, data: memoryview) -> str:
    """Write `data` to a new file of random name, 0600 and fsynced; `stack` removes that name. Returns it."""
    temp = uuid.uuid4().hex
    with ExitStack() as opened:
        fd = _closing(opened, os.open(temp, _NEW_FILE, 0o600, dir_fd=directory))
        stack.callback(unlink, directory, temp)
        os.fchmod(fd, 0o600)  # the umask may have taken rights away
        done = 0
        while done < len(data):
            done += os.write(fd, data[done:])
        os.fsync(fd)
    return temp


def unlink(directory: int, file_name: str) -> None:
    """Remove one name; no error when it is gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(file_name, dir_fd=directory)


def exists(directory: int, file_name: str) -> bool:
    """Tell whether anything has that name."""
    try:
        os.stat(file_name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def pread(fd: int, n_bytes: int, offset: int) -> bytes:
    """Read `n_bytes`, fewer only at the end of the file."""
    data = os.pread(fd, n_bytes, offset)  # one allocation, no copy; Linux reads at most 2 GiB - 4 KiB at a time
    while len(data) < n_bytes and (more := os.pread(fd, n_bytes - len(data), offset + len(data))):
        data += more
    return data


def object_info(key: str, found: os.stat_result) -> ObjectInfo:
    """Describe a file as the object `key`."""
    return ObjectInfo(key=key, size_bytes=found.st_size, modified_at=datetime.fromtimestamp(found.st_mtime, UTC))


def scan(directory: int, prefix: str) -> Iterator[ObjectInfo]:
    """Yield every ordinary file below whose path is a key, in no order; symlinks and devices are passed over."""
    with os.scandir(directory) as entries:
        for entry in entries:
            key = prefix + entry.name
            if not is_key(key):
                continue
            # Another process may delete what was just named: then it is not there.
            with contextlib.suppress(FileNotFoundError), ExitStack() as stack:
                if entry.is_dir(follow_symlinks=False):
                    yield from scan(enter(stack, directory, entry.name, make=False), f"{key}/")
                elif entry.is_file(follow_symlinks=False):
                    yield object_info(key, os.stat(entry.name, dir_fd=directory, follow_symlinks=False))


def remove_empty(directories: list[int], parts: list[str]) -> None:
    """Remove the directories named `parts` from the deepest up, as far as they are empty."""
    for parent, part in zip(reversed(directories[:-1]), reversed(parts), strict=True):
        try:
            os.rmdir(part, dir_fd=parent)
        except OSError as err:
            if err.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
            return


def _closing(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd
