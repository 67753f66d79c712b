"""Decide what a backup builds on and what a restore needs. Pure: the same rows give the same answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from continuum_tasks.errors import BackupNotFound
from continuum_tasks.model import ANOMALY, Backup, BackupId, BackupStatus, Cipher, Manifest, Strategy

MAX_LINKS = 100_000  # a chain longer than this is a loop somebody forged


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a parent must share with the new backup: host, page size in bytes, cipher, and a key we hold.

    The host, because two hosts may keep databases of one name in one storage, and a machine that took over after a
    disaster begins a history of its own.
    """

    host: str
    page_size: int
    cipher: Cipher
    key_ids: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The strategy that will really run, the backup it builds on (None for a full), and why."""

    strategy: Strategy
    parent: Backup | None
    reason: str


def choose_parent_of(strategy: Strategy, backups: Sequence[Backup], *, requirements: Requirements) -> Choice:
    """Choose the parent among one database's backups in one storage, newest first.

    A suspect backup, one that failed a verification and one with a broken link never become parents; when nothing fits,
    the run becomes a full and says why.
    """
    if strategy is Strategy.FULL:
        return Choice(strategy=strategy, parent=None, reason="requested")
    candidates = [b for b in usable(made_on(requirements.host, backups)) if b.is_snapshot or strategy is Strategy.INCREMENTAL]
    if not candidates:
        return Choice(strategy=Strategy.FULL, parent=None, reason=f"nothing usable for a {strategy} to build on")
    parent = candidates[0]
    mismatch = _mismatch(parent, requirements) or _length(parent, backups)
    if mismatch:
        return Choice(strategy=Strategy.FULL, parent=None, reason=f"{parent.id}: {mismatch}")
    return Choice(strategy=strategy, parent=parent, reason=f"builds on {parent.id}")


def made_on(host: str, backups: Sequence[Backup]) -> list[Backup]:
    """Return those made on this host, in the order given."""
    return [backup for backup in backups if backup.host == host]


def usable(backups: Sequence[Backup]) -> list[Backup]:
    """Return those, in the order given, that are good themselves and whose every link is there and good."""
    by_id = {backup.id: backup for backup in backups}
    verdict: dict[BackupId, bool] = {}
    for backup in backups:
        _judge(backup, by_id, verdict)
    return [backup for backup in backups if verdict[backup.id]]


def newest_first(backups: Sequence[Backup]) -> list[Backup]:
    """Sort by recovery point, and where that is one state by when they were made.

    An increment of captured commits bears the time of the last of them. Where none came since the backup it builds on, that is
    before the instant of that one; its state is no older all the same.
    """
    by_id = {(backup.storage, backup.id): backup for backup in backups}
    point: dict[tuple[str, BackupId], datetime] = {}
    for backup in backups:
        path, seen = list[Backup](), set[BackupId]()
        link: Backup | None = backup
        while link is not None and (link.storage, link.id) not in point and link.id not in seen:
            path.append(link)
            seen.add(link.id)
            link = None if link.parent_id is None else by_id.get((link.storage, link.parent_id))
        before = None if link is None else point.get((link.storage, link.id))
        for one in reversed(path):
            before = one.created_at if before is None else max(before, one.created_at)
            point[one.storage, one.id] = before
    return sorted(backups, key=lambda one: (point[one.storage, one.id], one.finished_at, one.id), reverse=True)


def links(backup: Backup, backups: Sequence[Backup]) -> tuple[Backup, ...]:
    """Return the chain a restore of `backup` merges, its full first. Raises BackupNotFound naming the missing link."""
    by_id = {b.id: b for b in backups}
    chain, seen = [backup], {backup.id}
    while chain[-1].parent_id is not None:
        parent = by_id.get(chain[-1].parent_id)
        if parent is None:
            raise BackupNotFound(
                f"backup {backup.id}: its link {chain[-1].parent_id} is gone",
                hint="restore an older backup: `continuum backup list` shows which are there",
            )
        if len(chain) > MAX_LINKS or parent.id in seen:
            raise BackupNotFound(f"backup {backup.id}: its links form a loop", hint="run `continuum backup reindex`")
        chain.append(parent)
        seen.add(parent.id)
    return tuple(reversed(chain))


def _judge(backup: Backup, by_id: Mapping[BackupId, Backup], verdict: dict[BackupId, bool]) -> None:
    path: list[Backup] = []
    current: Backup | None = backup
    while current is not None and current.id not in verdict:
        verdict[current.id] = False  # a loop meets this and stays unusable
        path.append(current)
        current = by_id.get(current.parent_id) if current.parent_id is not None else None
    if not path:
        return
    ground = path[-1].parent_id is None if current is None else verdict[current.id]
    for link in reversed(path):
        ground = ground and _is_good(link)
        verdict[link.id] = ground


def _is_good(backup: Backup) -> bool:
    failed = backup.failed_at is not None and (backup.verified_at is None or backup.verified_at <= backup.failed_at)
    return backup.status is BackupStatus.COMPLETED and not failed


def _length(parent: Backup, backups: Sequence[Backup]) -> str:
    n_links = len(links(parent, backups))
    return f"its chain has {n_links} links, the most a restore reads" if n_links >= MAX_LINKS else ""


def _mismatch(parent: Backup, requirements: Requirements) -> str:
    if parent.page_size != requirements.page_size:
        return f"page size changed from {parent.page_size} to {requirements.page_size} bytes"
    if parent.cipher is not requirements.cipher:
        return f"encryption changed from {parent.cipher} to {requirements.cipher}"
    if parent.key_id and parent.key_id not in requirements.key_ids:
        return f"its key {parent.key_id} is not in the keyring"
    return ""


def check_chain(manifests: Sequence[Manifest]) -> None:
    """Refuse manifests that do not form one chain, its snapshot layer first. Raises BackupNotFound naming the odd one.

    The chain's name (`base_id`) is its first full's; that may have expired, when a later link was rolled forward.
    """
    parent = None
    for manifest in manifests:
        backup = manifest.backup
        same = backup.base_id == manifests[0].backup.base_id and manifest.repository_id == manifests[0].repository_id
        if backup.parent_id != parent or not same or backup.page_size != manifests[0].backup.page_size:
            raise BackupNotFound(
                f"backup {backup.id}: does not continue the chain it is listed in", hint="run `continuum backup reindex`"
            )
        parent = backup.id


def is_anomalous(backup: Backup) -> bool:
    """Tell whether anomalies, not accepted yet, are among what makes this backup suspect."""
    return backup.status is BackupStatus.SUSPECT and any(reason.startswith(ANOMALY) for reason in backup.suspect_reasons)


def holding(backups: Sequence[Backup]) -> tuple[Backup, ...]:
    """Return the anomalous backups, newest first, that no clean one of the same database and storage came after."""
    good = {backup.id for backup in usable(backups)}
    last = next((number for number, backup in enumerate(backups) if backup.id in good), len(backups))
    return tuple(backup for backup in backups[:last] if is_anomalous(backup))
