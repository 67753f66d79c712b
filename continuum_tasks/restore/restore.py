"""Restore a backup, or the state after a captured commit: assemble it beside the target, prove it, install it in one rename.

Until that rename the target is what it was; a killed restore leaves at most a hidden temporary file and an intent
record, which the next restore of the same target finishes or clears away. An online restore writes into the live file instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from continuum_tasks import failpoints
from continuum_tasks.assembly.assemble import Whole, prove_assembled
from continuum_tasks.assembly.commit_log import CommitView
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.restore_point import Filled, RestorePoint, fill, read_restore_point
from continuum_tasks.errors import ContinuumError, ProofFailed, SourceRefused
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, BackupStatus, CommitRef, Manifest, Progress
from continuum_tasks.repository.repository import Repository
from continuum_tasks.restore import recovery_log
from continuum_tasks.restore.install.install import Installed, Ownership, install
from continuum_tasks.restore.online import LiveFile, Online, WrittenOnline, check_live, write_online
from continuum_tasks.restore.pause_capture import capture_paused, refuse_early, settle_install
from continuum_tasks.restore.plan.space import SPACE_MARGIN_BYTES
from continuum_tasks.restore.temporary_file import scratch_for, temporary_file
from continuum_tasks.sqlite import check, reserved
from continuum_tasks.sqlite.holders import Holder
from continuum_tasks.sqlite.inspect import Imprint, imprint

# Of a file that its service goes on writing to, and of no database, nothing is to be told by it later.
_NO_IMPRINT = Imprint(wal=False, change_counter=0, size_bytes=0, modified_ns=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """Which backup goes where. `verify` also runs SQLite's integrity check on the proven file before it is installed.

    `commit`: not the backup itself but the state after this commit, which the backup is the base of.
    `online`: write it into the live file, which is then neither replaced nor let alone by its users.
    `region` is the one that was asked for in place of the storage's; the repository given is open there already.
    """

    backup_id: BackupId
    target: Path
    overwrite: bool
    verify: bool
    region: str = ""
    commit: CommitRef | None = None
    online: Online | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was done: the replaced file, if any, is in `quarantine` with its sidecars. `written`: into a live file.

    `commit` is the one after which the state is, `backup` then its base; None: the state is the backup's.
    `kept_out`: who opened the replaced file in the last instant and is to be restarted.
    """

    backup: Backup
    target: str
    quarantine: str
    fetched_bytes: int
    seconds: float
    warnings: tuple[str, ...]
    commit: CommitView | None = None
    kept_out: tuple[Holder, ...] = ()
    written: WrittenOnline | None = None

    @property
    def size_bytes(self) -> int:
        return self.backup.original_size_bytes if self.commit is None else self.commit.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where the file went: the quarantine of what it replaced, its imprint, and the root over its pages if it is another."""

    quarantine: str
    root: str = ""
    imprint: Imprint = _NO_IMPRINT
    remarks: tuple[str, ...] = ()
    written: WrittenOnline | None = None
    kept_out: tuple[Holder, ...] = ()


def restore_backup(
    request: RestoreRequest, *, repository: Repository, site: HostContext, fan: Fan, check_lease: Callable[[], None]
) -> Generator[Progress, None, Restored]:
    """Restore a backup; yields progress. `check_lease` raises when this run lost its job to a newer one.

    Raises BackupNotFound, KeyringError, IntegrityError (naming the object), StorageError or TargetError; the target is
    then as it was.
    """
    begun = site.clock.monotonic()
    target = request.target.absolute()
    yield Progress(phase="plan")
    wanted = read_restore_point(request.backup_id, request.commit, repository=repository, site=site)
    need_bytes = wanted.peak_bytes + SPACE_MARGIN_BYTES
    with scratch_for(target, site=site) as work:
        settle_install(target, site=site)
        if request.online:
            check_live(target, wanted, site=site)
        else:
            refuse_early(target, overwrite=request.overwrite, need_bytes=need_bytes, site=site)
        failpoints.reach("restore.begun")
        with temporary_file(target, site=site) as filling:
            failpoints.reach("restore.temp_created")
            filled = yield from _fill(wanted, filling, work, repository=repository, fan=fan)
            # Under another name: a worker that was given up may still come to open the old one.
            temp = filling.rename(filling.with_name(filling.name.replace(".tmp", ".proven.tmp")))
            yield from prove_assembled(filled.state, temp, work, site=site)
            warnings = yield from _examine(wanted, temp, request)
            failpoints.reach("restore.proven")
            check_lease()
            if request.online:
                live = LiveFile(path=target, online=request.online, site=site)
                written = yield from write_online(filled.state, temp, live, work=work, check_lease=check_lease)
                placed = Placed(quarantine=written.quarantine, root=written.root, written=written)
            else:
                yield Progress(phase="install")
                with capture_paused(target, site=site):
                    check_lease()  # to let go may have taken seconds
                    placed = _install(temp, target, request, wanted, now=site.clock.now())
    restored = Restored(
        backup=wanted.backup,
        commit=wanted.seen,
        target=str(target),
        quarantine=placed.quarantine,
        written=placed.written,
        fetched_bytes=filled.fetched_bytes,
        seconds=round(site.clock.monotonic() - begun, 3),
        warnings=(*warnings, *placed.remarks),
        kept_out=placed.kept_out,
    )
    return replace(restored, warnings=(*restored.warnings, *_noted(restored, filled.state, request, placed, site=site)))


def _install(temp: Path, target: Path, request: RestoreRequest, wanted: RestorePoint, *, now: datetime) -> Placed:
    imprinted = _imprint(temp)
    installed = install(temp, target, overwrite=request.overwrite, now=now, ownership=_ownership(wanted.chain[-1]))
    return Placed(
        quarantine=str(installed.quarantine or ""), imprint=imprinted, remarks=_remarks(installed), kept_out=installed.stale
    )


def _imprint(temp: Path) -> Imprint:
    """Take it before the install: afterwards a service may have written already. Zeros for what is no database."""
    try:
        return imprint(temp)
    except SourceRefused:  # a backup of a damaged source
        return _NO_IMPRINT


def _noted(restored: Restored, state: Whole, request: RestoreRequest, placed: Placed, *, site: HostContext) -> tuple[str, ...]:
    """Keep what was done and measured; the restore is done by now, so what cannot be kept is a warning."""
    backup, now = restored.backup, site.clock.now()
    warnings: tuple[str, ...] = ()
    labels = {"database": backup.database, "storage": backup.storage}
    try:
        site.metrics.record("restore_duration_seconds", restored.seconds, at=now, labels=labels)
        site.metrics.record("restore_fetched_bytes", restored.fetched_bytes, at=now, labels=labels)
    except ContinuumError as err:
        warnings = (f"what it took is not in the metrics: {err.message}",)
    recovery = recovery_log.Recovery(
        kind=recovery_log.RecoveryKind.RESTORE,
        at=now,
        target=restored.target,
        backup_id=backup.id,
        database=backup.database,
        storage=backup.storage,
        region=request.region,
        root=placed.root or state.root,
        page_size=state.page_size,
        n_pages=state.n_pages,
        timeline="" if restored.commit is None else restored.commit.timeline,
        commit=0 if restored.commit is None else restored.commit.number,
        wal=placed.imprint.wal,
        change_counter=placed.imprint.change_counter,
        modified_ns=placed.imprint.modified_ns,
        quarantine=restored.quarantine,
    )
    return (*warnings, *recovery_log.note_recovery(recovery, site=site))


def _remarks(installed: Installed) -> tuple[str, ...]:
    findings = (f"SQLite finds in the restored file: {finding}" for finding in installed.findings[:5])
    return (*findings, *installed.stale_warnings)


def _fill(
    wanted: RestorePoint, temporary: Path, work: Path, *, repository: Repository, fan: Fan
) -> Generator[Progress, None, Filled]:
    filled = yield from fill(wanted, temporary, work, repository=repository, fan=fan)
    failpoints.reach("restore.chunks_written")
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    return filled


def _examine(wanted: RestorePoint, temporary: Path, request: RestoreRequest) -> Generator[Progress, None, tuple[str, ...]]:
    backup = wanted.backup
    suspect = backup.status is BackupStatus.SUSPECT
    warnings = tuple(f"the source was damaged when this was made: {reason}" for reason in backup.suspect_reasons)
    if not suspect:  # as a version made it that did not compute them
        warnings += reserved.findings(temporary)
    if (wanted.replay is not None or wanted.chain[-1].checked == "none") and not request.verify:
        # A copy that was checked when it was staged needs no second look: every page was just proven to be the same.
        yield Progress(phase="check", total_bytes=wanted.size_bytes)
        return warnings + tuple(f"SQLite finds in it: {problem}" for problem in check.quick_check_file(temporary)[:5])
    if request.verify:
        yield Progress(phase="verify", total_bytes=wanted.size_bytes)
        problems = check.integrity_check(temporary)
        if problems and not suspect:
            raise ProofFailed(
                f"{wanted.name}: SQLite finds {problems[0]}",
                hint="the source was damaged in a way its quick check missed; restore an older one, or without --verify",
            )
    return warnings


def _ownership(manifest: Manifest) -> Ownership:
    source = manifest.source
    return Ownership(mode=source.mode, uid=source.uid, gid=source.gid)
