"""Say what a restore would do, and what would be lost by it, without changing anything."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from continuum_tasks.assembly.commit_log import CommitView
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.restore_point import RestorePoint, read_restore_point
from continuum_tasks.errors import SourceError, TargetError
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, Level, Manifest, Progress, Strategy
from continuum_tasks.repository.repository import Repository
from continuum_tasks.restore.install.target import check_target, refuse_shared
from continuum_tasks.restore.online import LiveFile, plan_online
from continuum_tasks.restore.pause_capture import other_users
from continuum_tasks.restore.plan.online import OnlinePlan, online_refusal
from continuum_tasks.restore.plan.space import SPACE_MARGIN_BYTES
from continuum_tasks.restore.restore import RestoreRequest
from continuum_tasks.restore.rows.losses import Loss, compare_tables, counted
from continuum_tasks.restore.temporary_file import assembled
from continuum_tasks.sqlite.inspect import inspect
from continuum_tasks.sqlite.snapshot import StageLimits, stage_copy

ASSUMED_BYTES_PER_SECOND = 50 * 1024 * 1024  # a slow disk, or S3 over a good line; said wherever it is used
RECENT = 10
LIMITS = StageLimits(busy_timeout_seconds=5, busy_window_seconds=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewLayer:
    """One backup of the chain and what of it may be read."""

    backup_id: BackupId
    strategy: Strategy
    n_objects: int
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long the restore may take, and whether the rate was measured here or assumed."""

    seconds: float
    bytes_per_second: float
    n_measured: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Rows per table that would be lost. `unknown` says why they cannot be told; exact: rows compared, not counts."""

    tables: tuple[Loss, ...] = ()
    exact: bool = False
    unknown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a restore would do. `commit`: it would be the state after this one, with so many segments written over the backup.

    `refused` says what would stop it now, empty when nothing would."""

    backup: Backup
    target: str
    layers: tuple[PreviewLayer, ...]
    fetch_bytes: int
    estimate: Estimate
    space_bytes: int
    free_bytes: int | None
    replaces: bool
    in_use_by: tuple[str, ...]
    refused: tuple[str, ...]
    losses: Losses = field(default_factory=Losses)
    commit: CommitView | None = None
    n_segments: int = 0
    segment_bytes: int = 0
    online: OnlinePlan | None = None


def preview_restore(
    request: RestoreRequest, *, exact: bool, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, Preview]:
    """Plan a restore; `exact` assembles the backup in the temporary directory and compares rows instead of counts.

    Raises BackupNotFound, KeyringError, StorageError, and with `exact` what assembling raises.
    """
    yield Progress(phase="plan")
    wanted = read_restore_point(request.backup_id, request.commit, repository=repository, site=site)
    backup, target = wanted.backup, request.target.absolute()
    layers = tuple(
        PreviewLayer(
            backup_id=m.backup.id,
            strategy=m.backup.strategy,
            n_objects=len(m.objects),
            stored_bytes=sum(stored.size_bytes for stored in m.objects),
        )
        for m in wanted.chain
    )
    segment_bytes = 0 if wanted.replay is None else wanted.replay.fetch_bytes
    fetch_bytes = sum(layer.stored_bytes for layer in layers) + segment_bytes
    need_bytes = wanted.peak_bytes + SPACE_MARGIN_BYTES
    in_use_by = tuple(str(holder) for holder in other_users(target, site=site)) if target.is_file() else ()
    online: OnlinePlan | None = None
    wrong: tuple[str, ...] = ()
    if request.online is not None:
        live = LiveFile(path=target, online=request.online, site=site)
        online, wrong = yield from _online(wanted, live, repository=repository, fan=fan)
    losses = Losses()
    if target.is_file():
        losses = yield from (
            _compared(wanted, target, repository=repository, site=site, fan=fan)
            if exact
            else _counted(wanted, target, repository=repository, site=site)
        )
    return Preview(
        backup=backup,
        target=str(target),
        layers=layers,
        fetch_bytes=fetch_bytes,
        estimate=_estimate(fetch_bytes, backup, site),
        space_bytes=need_bytes,
        free_bytes=shutil.disk_usage(target.parent).free if target.parent.is_dir() else None,
        replaces=target.is_file(),
        in_use_by=in_use_by,
        refused=(*wrong, *_refused(request, need_bytes=need_bytes, in_use_by=in_use_by, accepted=site.accepts(target))),
        online=online,
        losses=losses,
        commit=wanted.seen,
        n_segments=0 if wanted.replay is None else len(wanted.replay.pieces),
        segment_bytes=segment_bytes,
    )


def _refused(
    request: RestoreRequest, *, need_bytes: int, in_use_by: Sequence[str], accepted: tuple[str, ...]
) -> tuple[str, ...]:
    found = []
    try:
        refuse_shared(request.target, accepted=accepted)
        check_target(request.target, overwrite=request.overwrite or request.online is not None, need_bytes=need_bytes)
    except TargetError as err:
        found.append(f"{err.message} ({err.hint})")
    if in_use_by and request.online is None:
        found.append(f"{request.target}: in use by {', '.join(in_use_by)} (stop the service first)")
    return tuple(found)


def _online(
    wanted: RestorePoint, live: LiveFile, *, repository: Repository, fan: Fan
) -> Generator[Progress, None, tuple[OnlinePlan | None, tuple[str, ...]]]:
    try:
        plan = yield from plan_online(wanted, live, repository=repository, fan=fan)
    except TargetError as err:
        return None, (f"{err.message} ({err.hint})",)
    free_bytes = shutil.disk_usage(live.path.parent).free
    refused = online_refusal(plan, free_bytes=free_bytes, wait_writers=live.online.wait_writers)
    return plan, () if refused is None else (f"{refused.message} ({refused.hint})",)


def _estimate(fetch_bytes: int, backup: Backup, site: HostContext) -> Estimate:
    """Estimate from the last restores from this storage on this host; times of two metrics pair up by their instant."""
    metrics = site.metrics
    seconds = {s.at: s.value for s in metrics.series("restore_duration_seconds") if s.labels.get("storage") == backup.storage}
    fetched = {s.at: s.value for s in metrics.series("restore_fetched_bytes") if s.at in seconds}
    recent = sorted(fetched)[-RECENT:]
    took, read = sum(seconds[at] for at in recent), sum(fetched[at] for at in recent)
    rate = read / took if took > 0 and read > 0 else float(ASSUMED_BYTES_PER_SECOND)
    n_measured = len(recent) if took > 0 and read > 0 else 0
    return Estimate(seconds=round(fetch_bytes / rate, 3), bytes_per_second=round(rate, 1), n_measured=n_measured)


def _counted(
    wanted: RestorePoint, target: Path, *, repository: Repository, site: HostContext
) -> Generator[Progress, None, Losses]:
    yield Progress(phase="compare")
    if wanted.replay is not None:
        return Losses(unknown="the rows after that commit were never counted; --exact compares them")
    known = _row_counts(wanted.chain[-1], repository=repository, site=site)
    if known is None:
        return Losses(unknown="the backup's rows were never counted; --exact compares them")
    try:
        inspect(target, accepted=site.accepts(target))
        return Losses(tables=counted(target, known))
    except SourceError as err:
        return Losses(unknown=err.message)


def _row_counts(manifest: Manifest, *, repository: Repository, site: HostContext) -> tuple[tuple[str, int], ...] | None:
    if manifest.row_counts:
        return manifest.row_counts
    verdicts = site.catalog.attestations(repository.name, manifest.backup.id)
    passed = [verdict for verdict in verdicts if verdict.passed and verdict.level is Level.RESTORE]
    return passed[-1].row_counts if passed else None


def _compared(
    wanted: RestorePoint, target: Path, *, repository: Repository, site: HostContext, fan: Fan
) -> Generator[Progress, None, Losses]:
    with site.scratch() as work:
        scratch = yield from assembled(wanted, work, repository=repository, site=site, fan=fan)
        yield Progress(phase="compare", total_bytes=wanted.size_bytes)
        try:  # a copy of the target, so that its writers wait for the copying alone
            with stage_copy(
                inspect(target, accepted=site.accepts(target)), site.temp_dir, limits=LIMITS, clock=site.clock
            ) as staged:
                return Losses(tables=compare_tables(staged.path, scratch), exact=True)
        except SourceError as err:
            return Losses(unknown=err.message, exact=True)
