"""Reserve a backup id for one run: no two backups of one storage share an id, whatever database or host they are of.

Two databases that are the default one on their hosts give ids without a name, so two snapshots of one second would meet.
A reservation is a create-only object that lasts as long as its run; those of killed runs are cleared after an hour.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from continuum_tasks.errors import ObjectExists, StorageError
from continuum_tasks.model import BackupId
from continuum_tasks.repository import Repository

PREFIX = "locks/.ids/"  # no database's name begins with a dot
KEPT = timedelta(hours=1)


def reserve(backup_id: BackupId, nonce: str, *, repository: Repository) -> bool:
    """Take an id for the run named by `nonce`; False when another run has it. Raises StorageError."""
    storage = repository.storage
    try:
        storage.put(f"{PREFIX}{backup_id}", nonce.encode(), only_new=True)
    except ObjectExists:
        return False
    now = storage.stat(f"{PREFIX}{backup_id}").modified_at
    for info in list(storage.list(PREFIX)):
        if now - info.modified_at > KEPT:
            storage.delete(info.key)
    return True


@contextlib.contextmanager
def released(backup_id: BackupId, *, repository: Repository) -> Iterator[None]:
    """Give the id back at the end: by then its manifest has it, or nobody needs it."""
    try:
        yield
    finally:
        with contextlib.suppress(StorageError):  # what is left is cleared by a later run
            repository.storage.delete(f"{PREFIX}{backup_id}")
