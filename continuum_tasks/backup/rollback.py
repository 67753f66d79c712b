"""Take back what a failed run stored: a run that is tried again every few minutes must not fill a full storage for a day."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack

from continuum_tasks.backup.choose_parent import PendingBackup
from continuum_tasks.errors import LockError, StorageError
from continuum_tasks.repository.lock import Held
from continuum_tasks.repository.repository import Repository


@contextlib.contextmanager
def taken_back(drafted: PendingBackup, lock: Held, *, repository: Repository) -> Iterator[None]:
    """Delete the chunks of a drafted backup when the context ends in an error: no manifest may have been put by then.

    Only while the run holds its lock, and with it the id: another run's chunks are never among those listed. What cannot
    be deleted now, or is put later by a worker still at it, is an orphan that `expire` removes after a day.
    """
    with ExitStack() as undo:
        undo.callback(_delete_chunks, drafted, lock, repository)
        yield
        undo.pop_all()


def _delete_chunks(drafted: PendingBackup, lock: Held, repository: Repository) -> None:
    storage = repository.storage
    with contextlib.suppress(StorageError, LockError):  # why the run failed is the error to report
        stored = list(storage.list(f"layers/{drafted.database}/{drafted.base_id}/{drafted.id}/"))
        lock.check()  # after the listing: what was listed is ours, whoever gets the id from now on
        for info in stored:
            storage.delete(info.key)
