"""Prove what was last brought back on this host against the backup it came from."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.errors import BackupNotFound, ProofFailed
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import BackupId, Progress
from continuum_tasks.repository.repository import Repository
from continuum_tasks.restore import extract
from continuum_tasks.restore.recovery_log import Recovery, RecoveryKind, read_recoveries
from continuum_tasks.restore.rows.match import OnConflict
from continuum_tasks.sqlite import check
from continuum_tasks.sqlite.inspect import DatabaseSource, imprint, inspect, wal_bytes
from continuum_tasks.sqlite.live import live_root
from continuum_tasks.sqlite.snapshot import StageLimits, stage_copy

LIMITS = StageLimits(busy_timeout_seconds=5, busy_window_seconds=4)


class RecoveryVerdict(StrEnum):
    """IDENTICAL: every page as proven. WRITTEN: sound, and written since. REDUCED: sound, but rows of the backup are gone."""

    IDENTICAL = "identical"
    WRITTEN = "written since"
    REDUCED = "rows gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Rows of one table: in the backup and in the database, None where there is no such table."""

    table: str
    backup: int | None
    database: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryProof:
    """What was proven of which recovery, and when it was made."""

    kind: RecoveryKind
    at: datetime
    target: str
    backup_id: BackupId
    verdict: RecoveryVerdict
    findings: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = field(default_factory=tuple)


def last(site: HostContext) -> Recovery:
    """Return the last restore or extract of this host. Raises BackupNotFound when there is none, or it was undone."""
    found = read_recoveries(site)
    if not found:
        raise BackupNotFound(
            f"host {site.host}: no restore is known here",
            hint="it was made by another user or host, or state_dir was lost; `backup compare-counts` compares by hand",
        )
    if found[-1].kind is RecoveryKind.UNDO:
        raise BackupNotFound(
            f"{found[-1].target}: its last restore was undone at {found[-1].at.isoformat()}",
            hint="there is nothing to prove; `restore --undo` again brings the restored file back",
        )
    return found[-1]


def prove_recovery(
    recovery: Recovery, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, RecoveryProof]:
    """Prove one recovery; yields progress.

    Raises ProofFailed when the database is damaged or was changed by something that is not SQLite, SourceError when it
    cannot be read, and what reading the backup raises.
    """
    assert recovery.backup_id is not None
    if recovery.kind is RecoveryKind.EXTRACT:
        return (yield from _extract(recovery, repository=repository, site=site, fan=fan))
    target = Path(recovery.target)
    source = inspect(target, accepted=site.accepts(target))
    yield Progress(phase="prove", total_bytes=source.size_bytes)
    as_restored = source.size_bytes == recovery.n_pages * recovery.page_size and not wal_bytes(target)
    if as_restored and live_root(target, page_size=recovery.page_size, n_pages=recovery.n_pages) == recovery.root:
        return _proof(recovery, RecoveryVerdict.IDENTICAL, findings=("every page is as it was proven before it was installed",))
    _check_written(recovery, target)
    return (yield from _written(recovery, source, repository=repository, site=site))


def _check_written(recovery: Recovery, target: Path) -> None:
    """Tell a service's writes from what no service did. In WAL mode the header's counter stays, so nothing can be told."""
    now = imprint(target)
    counted = recovery.change_counter and not (recovery.wal or now.wal)
    if now.modified_ns == recovery.modified_ns and not wal_bytes(target):
        raise ProofFailed(
            f"{target}: its pages differ from backup {recovery.backup_id}, although it was not written since the restore",
            hint="the disk returns other bytes than were written: check it, then restore again",
        )
    if counted and now.change_counter == recovery.change_counter:
        raise ProofFailed(
            f"{target}: changed since the restore by something that is not SQLite",
            hint="find out what writes to it, then restore again",
        )


def _written(
    recovery: Recovery, source: DatabaseSource, *, repository: Repository, site: HostContext
) -> Generator[Progress, None, RecoveryProof]:
    yield Progress(phase="check", total_bytes=source.size_bytes)
    with stage_copy(source, site.temp_dir, limits=LIMITS, clock=site.clock) as staged:
        problems = staged.damaged or check.integrity_check(staged.path)
        if problems:
            raise ProofFailed(
                f"{source.path}: SQLite finds {problems[0]}", hint="restore it again; keep a forensics-copy first"
            )
        now = dict(check.row_counts_file(staged.path))
    kept = _row_counts(recovery, repository=repository, site=site)
    if kept is None:
        text = "written since the restore, and sound; the rows restored were never counted, so they are not compared"
        return _proof(recovery, RecoveryVerdict.WRITTEN, findings=(text,))
    differing = tuple(
        Difference(table=name, backup=kept.get(name), database=now.get(name))
        for name in sorted(kept | now)
        if kept.get(name) != now.get(name)
    )
    reduced = any(d.backup is not None and (d.database is None or d.database < d.backup) for d in differing)
    text = "the service has written since the restore; SQLite finds no damage"
    return _proof(
        recovery, RecoveryVerdict.REDUCED if reduced else RecoveryVerdict.WRITTEN, findings=(text,), differences=differing
    )


def _row_counts(recovery: Recovery, *, repository: Repository, site: HostContext) -> dict[str, int] | None:
    assert recovery.backup_id is not None
    if recovery.commit:
        return None  # the backup's rows are not those after the commit
    manifest = repository.read_manifest(recovery.database, recovery.backup_id, check_signature=False)
    if manifest.row_counts:
        return dict(manifest.row_counts)
    passed = [v for v in site.catalog.attestations(recovery.storage, recovery.backup_id) if v.passed and v.row_counts]
    return dict(passed[-1].row_counts) if passed else None


def _extract(
    recovery: Recovery, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, RecoveryProof]:
    """Look again, as the extract did: every row it picked must be there."""
    assert recovery.backup_id is not None
    request = extract.ExtractRequest(
        backup_id=recovery.backup_id,
        table=recovery.table,
        where=recovery.where,
        into=Path(recovery.target),
        on_conflict=OnConflict.SKIP,
        dry_run=True,
        commit=recovery.commit_ref,
    )
    done = yield from extract.extract_rows(request, repository=repository, site=site, fan=fan)
    assert done.match is not None
    found = done.match
    text = f"of {done.n_rows} rows of {done.table}: {found.n_same} as in the backup, {found.n_conflicts} with other content"
    if found.n_new:
        return _proof(recovery, RecoveryVerdict.REDUCED, findings=(f"{text}, {found.n_new} not there",))
    return _proof(recovery, RecoveryVerdict.WRITTEN if found.n_conflicts else RecoveryVerdict.IDENTICAL, findings=(text,))


def _proof(
    recovery: Recovery, verdict: RecoveryVerdict, *, findings: tuple[str, ...], differences: tuple[Difference, ...] = ()
) -> RecoveryProof:
    assert recovery.backup_id is not None
    return RecoveryProof(
        kind=recovery.kind,
        at=recovery.at,
        target=recovery.target,
        backup_id=recovery.backup_id,
        verdict=verdict,
        findings=findings,
        differences=differences,
    )
