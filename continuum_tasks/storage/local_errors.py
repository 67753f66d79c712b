"""storage/local_errors.py: which error of ours an operating system error on a local storage is."""

from __future__ import annotations

import errno
import os

from continuum_tasks.errors import StorageDenied, StorageError, StorageFull, StorageUnreachable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
# What network mounts answer while their server is away, and what passes by itself.
_TRANSIENT = (errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EMFILE, errno.ENFILE)


def named(err: OSError, where: str) -> StorageError:
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
