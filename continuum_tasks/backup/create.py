"""Back up one database: find a state of it, store the pages that are new, commit by writing the manifest.

The way: lock, inspect, choose the parent, choose where the state comes from, stage it, store its layer, check it, put the
manifest, tell this host's catalog and metrics. Order is the proof: objects first, then the manifest (from here on the backup
exists), then this host's index of it. A run that dies before the manifest leaves objects nobody names, and one that fails takes
them back; one that dies after it leaves a whole backup.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass

from continuum_tasks import __version__, failpoints
from continuum_tasks.assembly import page_digests
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.backup import anomaly_watch
from continuum_tasks.backup.choose_parent import (
    BackupRequest,
    ParentChoice,
    PendingBackup,
    check_there,
    choose_parent,
    prepare_backup,
    reserved_until_stored,
)
from continuum_tasks.backup.from_capture import find_captured_state
from continuum_tasks.backup.plan import admission
from continuum_tasks.backup.state_source import BackupState, Examined, LiveDatabase, NotCaptured, StateSource
from continuum_tasks.backup.write_layer import StoredLayer, rollback, store_layer
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import Declined
from continuum_tasks.history.chain import made_on
from continuum_tasks.host import measure
from continuum_tasks.host.measure import timed
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, BackupStatus, Manifest, PhaseCost, Progress, SourceFacts
from continuum_tasks.repository.lock import Held, hold_lock
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite.inspect import DatabaseSource, inspect

MAX_REASONS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A backup that exists now, why it has the strategy it has, what its phases took, and what its anomalies put on hold."""

    backup: Backup
    reason: str
    profile: tuple[PhaseCost, ...]
    held: BackupId | None


def check_admission(database: DatabaseConfig, storage: str, *, site: HostContext) -> None:
    """Refuse before anything is queued: one was made just now, or anomalies hold. Raises Declined; the timetable asks more."""
    backups = made_on(site.host, site.catalog.backups(storage=storage, database=database.name))
    refusal = admission.recent(backups, min_interval_seconds=database.min_interval_seconds, now=site.clock.now())
    refusal = refusal or admission.anomalous(backups)
    if refusal is not None:
        raise Declined(f"database {database.name}, storage {storage}: no backup made: {refusal.text}", hint=refusal.hint)


def create_backup(
    request: BackupRequest, *, repository: Repository, site: HostContext, fan: Fan, check_lease: Callable[[], None]
) -> Generator[Progress, None, Finished]:
    """Back up one database; yields progress with notes, returns the backup. `check_lease` raises when this run lost its job.

    Raises SourceError (nothing was stored), DatabaseLocked, StorageError, KeyringError, NoSpace or StaleClaim.
    """
    check_there(repository, site=site)
    with (
        hold_lock(request.database.name, repository.storage, site.contender()) as lock,
        site.scratch() as scratch,
        ExitStack() as reservation,
    ):
        failpoints.reach("create.locked")
        begun, costs = site.clock.monotonic(), list[PhaseCost]()
        monotonic = site.clock.monotonic
        source = inspect(request.database.path, accepted=request.database.accept_file_system)
        yield Progress(phase="stage", total_bytes=source.size_bytes, note=_of_source(source))
        with timed("plan", costs, n_bytes=0, monotonic=monotonic):
            parent = choose_parent(request, source.page_size, scratch, repository=repository, site=site)
        origin = _choose_source(request, source, parent, repository=repository, site=site)
        yield Progress(phase="stage", note=origin.note)
        with ExitStack() as staging:
            state = yield from origin.stage(scratch, staging)
            failpoints.reach("create.staged")
            with timed("plan", costs, n_bytes=0, monotonic=monotonic):
                if state.staged.page_size != parent.page_size:  # a VACUUM since the database was inspected
                    parent = choose_parent(request, state.staged.page_size, scratch, repository=repository, site=site)
                pending = prepare_backup(request, state.staged, parent, repository=repository, site=site)
            reservation.enter_context(reserved_until_stored(pending.id, repository=repository))
            with rollback(pending, lock, repository=repository):
                yield Progress(phase="stage", note=_of_pending(pending))
                layer = yield from store_layer(pending, state.staged, scratch, site=site, fan=fan)
                failpoints.reach("create.chunks_put")
                yield Progress(phase="check")
                examined = state.examine()
                facts = _Facts(source=source, state=state, examined=examined, costs=tuple(costs))
                manifest = _manifest(pending, layer, facts, site=site)
                judged = anomaly_watch.judge_backup(manifest, examined.row_counts, repository=repository, site=site)
                yield Progress(phase="check", note=_of_judged(examined, judged))
        yield Progress(phase="commit")
        check_lease()
        with timed("commit", costs, n_bytes=0, monotonic=monotonic):
            backup, held = _commit(judged, layer, repository=repository, site=site, lock=lock)
        measure.measure_backup(backup, site.clock.monotonic() - begun, site=site)
        phases = measure.added((*judged.manifest.profile, costs[-1]))
        measure.record_phase_costs(phases, backup, site=site)
    return Finished(backup=backup, reason=pending.choice.reason, profile=phases, held=held)


def _choose_source(
    request: BackupRequest, source: DatabaseSource, parent: ParentChoice, *, repository: Repository, site: HostContext
) -> StateSource:
    """Take what capture has read where that will do, else the database itself."""
    captured = find_captured_state(request, parent, repository=repository, site=site)
    if not isinstance(captured, NotCaptured):
        return captured
    return LiveDatabase(source=source, database=request.database, storage=repository.name, reason=captured.reason, site=site)


def _of_source(source: DatabaseSource) -> str:
    mode = f"WAL mode, {source.wal_bytes} bytes of WAL" if source.wal else "rollback-journal mode"
    return f"source {source.path}: {source.size_bytes} bytes, pages of {source.page_size}, {mode}"


def _of_pending(pending: PendingBackup) -> str:
    choice = pending.choice
    parent = f"parent {choice.parent.id}" if choice.parent else "no parent"
    key = f"key {pending.key_id}" if pending.key_id else "not encrypted"
    return f"{pending.id}: {choice.strategy}, {parent} ({choice.reason}), {key}, storage {pending.storage}"


def _of_judged(examined: Examined, judged: anomaly_watch.Judged) -> str:
    problems = "; ".join(examined.problems[:5]) or "nothing wrong"
    unlike = "; ".join(f"{one.name}: {one.text}" for one in judged.anomalies) or "no anomaly"
    return f"check: {problems}; {judged.note}; {unlike}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the manifest says besides what was stored: of the database, the state of it, its check; `costs` so far."""

    source: DatabaseSource
    state: BackupState
    examined: Examined
    costs: tuple[PhaseCost, ...]


def _manifest(pending: PendingBackup, layer: StoredLayer, facts: _Facts, *, site: HostContext) -> Manifest:
    source, state, staged, examined = facts.source, facts.state, facts.state.staged, facts.examined
    reasons = (*staged.damaged, *examined.problems)
    backup = Backup(
        id=pending.id,
        database=pending.database,
        storage="",
        strategy=pending.choice.strategy,
        status=BackupStatus.SUSPECT if reasons else BackupStatus.COMPLETED,
        created_at=staged.taken_at,
        finished_at=site.clock.now(),
        parent_id=None if pending.choice.parent is None else pending.choice.parent.id,
        base_id=pending.base_id,
        page_size=staged.page_size,
        n_pages=staged.n_pages,
        root=layer.root,
        original_size_bytes=staged.n_pages * staged.page_size,
        layer_size_bytes=layer.n_pages * staged.page_size,
        stored_size_bytes=layer.stored_bytes,
        codec=site.settings.compression_algorithm,
        cipher=pending.cipher,
        key_id=pending.key_id,
        host=site.host,
        suspect_reasons=reasons[:MAX_REASONS],
        position=state.position,
    )
    return Manifest(
        repository_id=pending.identity.repository_id,
        backup=backup,
        source=SourceFacts(
            path=str(source.path), mode=source.mode, uid=source.uid, gid=source.gid, journal_mode=staged.journal_mode
        ),
        wrapped_key=pending.wrapped_key,
        objects=layer.objects,
        checked=state.checked,
        tool_version=__version__,
        sqlite_version=staged.sqlite_version,
        schema_digest=examined.schema_digest,
        # Counted in the database itself, a little later, they are no fact about the backup.
        row_counts=() if staged.digests else examined.row_counts,
        profile=measure.added((*facts.costs, *state.costs, *layer.costs, *examined.costs)),
    )


def _commit(
    judged: anomaly_watch.Judged, layer: StoredLayer, *, repository: Repository, site: HostContext, lock: Held
) -> tuple[Backup, BackupId | None]:
    lock.check()
    # First the hold, then what calls for it: a run that dies between the two has held one backup too many.
    held = anomaly_watch.protect(judged, repository=repository, site=site)
    failpoints.reach("create.before_manifest")
    committed = repository.put_manifest(judged.manifest)
    failpoints.reach("create.after_manifest")
    site.catalog.add(committed)
    failpoints.reach("create.catalogued")
    if committed.backup.status is BackupStatus.COMPLETED:
        page_digests.keep_digests(committed.backup, layer.digests, site)
    return committed.backup, None if held is None else held.backup_id
