"""Objects as files under one directory, durable on return.

A put writes `<root>/~incoming/<random>`, fsyncs it, renames it into place (links it for `only_new`), then fsyncs every
directory from the file up to the root. `~` cannot occur in a key, so a file that a killed put left is never listed; the
next process that puts removes it when it is an hour old by the storage's own clock.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from continuum_tasks.errors import ObjectExists, ObjectMissing, StorageDenied, StorageError, StorageFull, StorageUnreachable
from continuum_tasks.storage import directories
from continuum_tasks.storage.protocol import (
    Buffer,
    Capabilities,
    ObjectInfo,
    check_key,
    check_prefix,
    check_range,
    short_object,
    view,
)

INCOMING = "~incoming"
STALE_SECONDS = 3600.0
_WALKS = 10


class LocalStorage:
    """Files 0600 in directories 0700, whatever the umask. The first put makes the root; until then nothing is there."""

    def __init__(self, root: Path, *, name: str = "local") -> None:
        self._root = Path(root).absolute()
        self._name = name
        self._swept = False
        self._can_link: bool | None = None

    def __repr__(self) -> str:
        return f"LocalStorage({self._name!r}, {str(self._root)!r})"

    def put(self, key: str, data: Buffer, *, only_new: bool = False) -> None:
        """See `Storage.put`. Raises StorageFull, StorageDenied."""
        check_key(key)
        with self._coordinates(key), ExitStack() as stack:
            root = self._make_root(stack)
            incoming = directories.enter(stack, root, INCOMING, make=True)
            temp = directories.write_new(stack, incoming, view(data))
            self._sweep(incoming, temp)
            for _ in range(_WALKS - 1):
                # A delete may remove a directory it just emptied while this put walks into it: walk again.
                with contextlib.suppress(FileNotFoundError):
                    return self._place((incoming, temp), root, key, only_new=only_new)
            return self._place((incoming, temp), root, key, only_new=only_new)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Storage.get`."""
        check_range(offset, length)
        with self._coordinates(key), self._open(key) as fd:
            size = os.fstat(fd).st_size
            end = size if length is None else offset + length
            data = directories.pread(fd, end - offset, offset) if max(offset, end) <= size else b""
        if max(offset, end) > size or len(data) != end - offset:
            raise short_object(self._at(key), offset=offset, length=length, found=size)
        return data

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Storage.list`. Files whose name is no key, symlinks and devices are not objects and are passed over."""
        parts = check_prefix(prefix).split("/")[:-1]
        found: list[ObjectInfo] = []
        with self._coordinates(prefix), ExitStack() as stack, contextlib.suppress(FileNotFoundError, NotADirectoryError):
            directory = directories.walk(stack, directories.open_root(stack, self._root), parts, make=False)[-1]
            found.extend(directories.scan(directory, "".join(f"{part}/" for part in parts)))
        return iter(sorted((info for info in found if info.key.startswith(prefix)), key=lambda info: info.key))

    def delete(self, key: str) -> None:
        """See `Storage.delete`. Directories it leaves empty go too."""
        *parents, file_name = check_key(key).split("/")
        absent = contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError)
        with self._coordinates(key), ExitStack() as stack, absent:
            opened = directories.walk(stack, directories.open_root(stack, self._root), parents, make=False)
            os.unlink(file_name, dir_fd=opened[-1])
            # Durable before the next delete: a chunk must never go for good while its manifest may come back.
            os.fsync(opened[-1])
            directories.remove_empty(opened, parents)

    def stat(self, key: str) -> ObjectInfo:
        """See `Storage.stat`."""
        with self._coordinates(key), self._open(key) as fd:
            return directories.object_info(key, os.fstat(fd))

    def capabilities(self) -> Capabilities:
        """See `Storage.capabilities`. `free_bytes` is what the file system has for this user now."""
        with self._coordinates("~capabilities"):
            if self._can_link is None:
                self._can_link = self._try_link()
            space = os.statvfs(self._root if self._root.exists() else self._root.anchor)
        free_bytes = space.f_bavail * space.f_frsize
        return Capabilities(conditional_put=self._can_link, versioning=False, object_lock=False, free_bytes=free_bytes)

    def _at(self, key: str) -> str:
        return f"storage {self._name}: object {key} under {self._root}"

    @contextmanager
    def _coordinates(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise local_error(err, self._at(key)) from err

    def _make_root(self, stack: ExitStack) -> int:
        if not self._root.is_dir():
            directories.make_root(self._root)
        return directories.open_root(stack, self._root)

    @contextmanager
    def _open(self, key: str) -> Iterator[int]:
        *parents, file_name = check_key(key).split("/")
        with ExitStack() as stack:
            try:
                root = directories.open_root(stack, self._root)
                fd = directories.open_file(stack, directories.walk(stack, root, parents, make=False)[-1], file_name)
            except (FileNotFoundError, NotADirectoryError) as err:
                gone = "it was deleted or never written; `continuum backup verify` says what else is gone"
                hint = gone if self._root.is_dir() else "that directory is not there: is its disk mounted?"
                raise ObjectMissing(f"{self._at(key)}: not there", hint=hint) from err
            yield fd

    def _place(self, written: tuple[int, str], root: int, key: str, *, only_new: bool) -> None:
        *parents, file_name = key.split("/")
        incoming, temp = written
        with ExitStack() as stack:
            opened = directories.walk(stack, root, parents, make=True)
            if only_new:
                self._link(written, opened[-1], key)
            else:
                os.rename(temp, file_name, src_dir_fd=incoming, dst_dir_fd=opened[-1])
            # All of them, each time: a directory another process made a moment ago may not be durable yet (0.06 ms each).
            for directory in reversed(opened):
                os.fsync(directory)

    def _link(self, written: tuple[int, str], directory: int, key: str) -> None:
        incoming, temp = written
        file_name = key.rpartition("/")[2]
        taken = ObjectExists(f"{self._at(key)}: it exists already")
        if self._can_link is None:
            self._can_link = self._try_link()
        if self._can_link:
            try:
                os.link(temp, file_name, src_dir_fd=incoming, dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError as err:
                raise taken from err
            return
        if directories.exists(directory, file_name):
            raise taken
        os.rename(temp, file_name, src_dir_fd=incoming, dst_dir_fd=directory)

    def _try_link(self) -> bool:
        with ExitStack() as stack:
            incoming = directories.enter(stack, self._make_root(stack), INCOMING, make=True)
            temp = directories.write_new(stack, incoming, memoryview(b""))
            stack.callback(directories.unlink, incoming, f"{temp}-link")
            try:
                os.link(temp, f"{temp}-link", src_dir_fd=incoming, dst_dir_fd=incoming)
            except OSError as err:
                if err.errno not in directories.NO_LINKS:
                    raise
                return False
            return True

    def _sweep(self, incoming: int, temp: str) -> None:
        if self._swept:
            return
        self._swept = True
        now = os.stat(temp, dir_fd=incoming).st_mtime  # the storage's clock, which may be a file server's
        with os.scandir(incoming) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < now - STALE_SECONDS:
                        directories.unlink(incoming, entry.name)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


# What network mounts answer while their server is away, and what passes by itself.
_TRANSIENT = (errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EMFILE, errno.ENFILE)


def local_error(err: OSError, where: str) -> StorageError:
    """Build our error for `err`, with the coordinates `where` in front and a remedy."""
    code = err.errno or 0
    message = f"{where}: {os.strerror(code).lower()}"
    if code in _FULL:
        return StorageFull(message, hint="free space on this file system, or raise the quota")
    if code in _DENIED:
        return StorageDenied(message, hint="give the user that runs this command read and write rights there")
    if code == errno.ELOOP:
        return StorageDenied(f"{where}: a symlink is in the way", hint="put the file or directory itself there")
    if code in (errno.ENOTDIR, errno.EISDIR):
        return StorageError(f"{message}: no key may go on below another object", hint="choose another key or prefix")
    if code in _TRANSIENT:
        return StorageUnreachable(message, hint="check the mount and its server")
    return StorageError(message, hint="check the disk and the path")
