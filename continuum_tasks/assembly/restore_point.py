"""The state that a restore makes: that of a backup, or that after a captured commit, which a backup and commits give."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.assembly.assemble import Whole, assemble, whole
from continuum_tasks.assembly.commit_log import CommitView
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.replay import Replay, prepare_replay, replay
from continuum_tasks.errors import BackupNotFound
from continuum_tasks.history.chain import links
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, CommitRef, Manifest, Progress
from continuum_tasks.repository.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
    """`chain` is a backup's, its full first; `replay` what is written over it, None for the backup as it is."""

    chain: tuple[Manifest, ...]
    replay: Replay | None = None

    @property
    def backup(self) -> Backup:
        return self.chain[-1].backup

    @property
    def seen(self) -> CommitView | None:
        return None if self.replay is None else self.replay.seen

    @property
    def name(self) -> str:
        return f"backup {self.backup.id}" if self.replay is None else self.replay.name

    @property
    def size_bytes(self) -> int:
        return self.backup.original_size_bytes if self.replay is None else self.replay.seen.size_bytes

    @property
    def peak_bytes(self) -> int:
        """The most the file has while it is made."""
        return max(self.size_bytes, self.backup.original_size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A file that holds a state; `fetched_bytes` were read from the storage."""

    state: Whole
    fetched_bytes: int


def read_restore_point(
    backup_id: BackupId, commit: CommitRef | None, *, repository: Repository, site: HostContext
) -> RestorePoint:
    """Read what making a state takes, and prove that all of it that one can tell by indexes is there.

    Raises BackupNotFound, ObjectMissing, ObjectDamaged, KeyringError, StorageError.
    """
    chain = repository.read_chain(backup_id, likely=likely_links(backup_id, repository=repository, site=site))
    if commit is None:
        return RestorePoint(chain=chain)
    backups = [b for b in site.catalog.backups(storage=repository.name) if b.database == chain[-1].backup.database]
    return RestorePoint(chain=chain, replay=prepare_replay(commit, chain[-1].backup, repository=repository, backups=backups))


def fill(
    wanted: RestorePoint, target: Path, work: Path, *, repository: Repository, fan: Fan
) -> Generator[Progress, None, Filled]:
    """Write a state into the existing empty file `target`; `work` is a private directory. Raises as `assemble`, `replay`."""
    os.truncate(target, wanted.backup.original_size_bytes)
    assembled = yield from assemble(wanted.chain, target, work, repository=repository, fan=fan)
    if wanted.replay is None:
        return Filled(state=whole(wanted.chain[-1]), fetched_bytes=assembled.fetched_bytes)
    done = yield from replay(wanted.replay, target, work, repository=repository)
    return Filled(state=done.state, fetched_bytes=assembled.fetched_bytes + done.fetched_bytes)


def likely_links(backup_id: BackupId, *, repository: Repository, site: HostContext) -> tuple[BackupId, ...]:
    """Return the links the catalog knows, so thousands of manifests come at once; the storage still has the last word."""
    known = site.catalog.backups(storage=repository.name)
    wanted = next((backup for backup in known if backup.id == backup_id), None)
    if wanted is not None:
        with contextlib.suppress(BackupNotFound):
            return tuple(link.id for link in links(wanted, known))
    return ()
