"""Reserve a backup id for one run: no two backups of one storage share an id, whatever database or host they are of.

Two databases that are the default one on their hosts give ids without a name, so two snapshots of one second would meet.
A reservation is a create-only object that lasts as long as its run. Those of killed runs are cleared by the next run of the
same database and host, which holds their lock, or by anyone after an hour.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from continuum_tasks.errors import ObjectExists, ObjectMissing, StorageError
from continuum_tasks.model import BackupId
from continuum_tasks.repository.repository import Repository

PREFIX = "locks/.ids/"  # no database's name begins with a dot
KEPT = timedelta(hours=1)


def reserve(backup_id: BackupId, holder: str, nonce: str, *, repository: Repository) -> bool:
    """Take an id for the run `nonce` of `holder` (a database of a host); False when another run has it. Raises StorageError."""
    storage, key = repository.storage, f"{PREFIX}{backup_id}"
    try:
        storage.put(key, f"{holder} {nonce}".encode(), only_new=True)
    except ObjectExists:
        return False
    now = storage.stat(key).modified_at
    for info in list(storage.list(PREFIX)):
        if info.key != key and (now - info.modified_at > KEPT or _is_of(holder, info.key, repository)):
            storage.delete(info.key)
    return True


def _is_of(holder: str, key: str, repository: Repository) -> bool:
    try:
        return repository.storage.get(key).startswith(f"{holder} ".encode())
    except ObjectMissing:
        return False  # its run ended


@contextlib.contextmanager
def reserved_until_stored(backup_id: BackupId, *, repository: Repository) -> Iterator[None]:
    """Give the id back at the end: by then its manifest has it, or nobody needs it."""
    try:
        yield
    finally:
        with contextlib.suppress(StorageError):  # what is left is cleared by a later run
            repository.storage.delete(f"{PREFIX}{backup_id}")
