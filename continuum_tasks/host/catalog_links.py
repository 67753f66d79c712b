"""Which backups form the chain of a backup, as far as this host's catalog knows them."""

from __future__ import annotations

import contextlib

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history.chain import links
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import BackupId
from continuum_tasks.repository.repository import Repository


def likely_links(backup_id: BackupId, *, repository: Repository, site: HostContext) -> tuple[BackupId, ...]:
    """Return the links the catalog knows, so thousands of manifests come at once; the storage still has the last word."""
    known = site.catalog.backups(storage=repository.name)
    wanted = next((backup for backup in known if backup.id == backup_id), None)
    if wanted is not None:
        with contextlib.suppress(BackupNotFound):
            return tuple(link.id for link in links(wanted, known))
    return ()
