"""Back up one database: stage a consistent copy, store the pages that are new, commit by writing the manifest.

Order is the proof: objects first, then the manifest (from here on the backup exists), then this host's index of it.
A run that dies before the manifest leaves objects nobody names, and one that fails takes them back; one that dies after it
leaves a whole backup.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from continuum_tasks import __version__, failpoints
from continuum_tasks.assembly import page_digests
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.backup import anomaly_watch, from_capture, phase_costs, position
from continuum_tasks.backup.check_staged import Examined, examining
from continuum_tasks.backup.choose_parent import (
    BackupRequest,
    ParentChoice,
    PendingBackup,
    check_there,
    choose_parent,
    prepare_backup,
)
from continuum_tasks.backup.phase_costs import timed
from continuum_tasks.backup.plan import admission
from continuum_tasks.backup.reserve_id import reserved_until_stored
from continuum_tasks.backup.write_layer import StoredLayer, store, taken_back
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import Declined
from continuum_tasks.history.chain import made_on
from continuum_tasks.host import measure
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, BackupStatus, Manifest, PhaseCost, Position, Progress, SourceFacts
from continuum_tasks.repository.lock import Held, hold_lock
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite.inspect import DatabaseSource, inspect
from continuum_tasks.sqlite.snapshot import Staged, StageLimits, stage_copy

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
    """Back up one database; yields progress with notes, returns the backup. `still_mine` raises when this run lost its job.

    Raises SourceError (nothing was stored), DatabaseLocked, StorageError, KeyringError, NoSpace or StaleClaim.
    """
    check_there(repository, site=site)
    with (
        hold_lock(request.database.name, repository.storage, site.contender()) as lock,
        site.scratch() as scratch,
        ExitStack() as ending,
    ):
        failpoints.reach("create.locked")
        begun, costs = site.clock.monotonic(), list[PhaseCost]()
        monotonic = site.clock.monotonic
        source = inspect(request.database.path, accepted=request.database.accept_file_system)
        yield Progress(phase="stage", total_bytes=source.size_bytes, note=_of_source(source))
        taken = yield from from_capture.build_captured_state(request, scratch, repository=repository, site=site)
        with _ready(taken, _Staging(source=source, request=request, scratch=scratch), repository, site, costs) as ready:
            failpoints.reach("create.staged")
            staged = ready.staged
            with timed("plan", costs, n_bytes=0, monotonic=monotonic):
                chosen = ready.chosen or choose_parent(request, staged.page_size, scratch, repository=repository, site=site)
                drafted = prepare_backup(request, staged, chosen, repository=repository, site=site)
            ending.enter_context(reserved_until_stored(drafted.id, repository=repository))
            with taken_back(drafted, lock, repository=repository):
                yield Progress(phase="stage", note=_of_draft(drafted))
                layer = yield from store(drafted, staged, scratch, site=site, fan=fan)
                failpoints.reach("create.chunks_put")
                yield Progress(phase="check")
                found = ready.examine()
                facts = _Facts(
                    source=source,
                    staged=staged,
                    examined=found,
                    costs=(*costs, *layer.costs, *found.costs),
                    checked=ready.checked,
                    position=ready.position,
                )
                manifest = _manifest(drafted, layer, facts, site=site)
                judged = anomaly_watch.judge_backup(manifest, found.row_counts, repository=repository, site=site)
                yield Progress(phase="check", note=_of_judged(found, judged))
        yield Progress(phase="commit")
        check_lease()
        with timed("commit", costs, n_bytes=0, monotonic=monotonic):
            backup, held = _commit(judged, layer, repository=repository, site=site, lock=lock)
        measure.measure_backup(backup, site.clock.monotonic() - begun, site=site)
        phases = phase_costs.added((*judged.manifest.profile, costs[-1]))
        phase_costs.record_phase_costs(phases, backup, site=site)
    return Finished(backup=backup, reason=drafted.choice.reason, profile=phases, held=held)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staging:
    source: DatabaseSource
    request: BackupRequest
    scratch: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A state to be stored: where it stands on a timeline, how it is examined, and what the manifest says of that.

    `chosen` is what it builds on, where that was decided before it was put together.
    """

    staged: Staged
    position: Position | None
    examine: Callable[[], Examined]
    checked: str
    chosen: ParentChoice | None = None


@contextmanager
def _ready(
    taken: from_capture.CapturedState | None, what: _Staging, repository: Repository, site: HostContext, costs: list[PhaseCost]
) -> Iterator[_Ready]:
    """Give what was captured, or stage a copy of the database and have it examined meanwhile."""
    request = what.request
    if taken is not None and taken.staged.digests is None:
        with _examined(taken.staged, taken.position, request, site=site) as ready:
            yield ready
        return
    if taken is not None:
        examine = partial(from_capture.examined, request)
        yield _Ready(staged=taken.staged, position=taken.position, examine=examine, checked="none", chosen=taken.chosen)
        return
    begun = position.begin(request.database, repository.name, site=site)
    with _staged(what.source, request, what.scratch, site=site, costs=costs) as staged:
        stands = position.settle(begun, request.database, staged, site=site)
        with _examined(staged, stands, request, site=site) as ready:
            yield ready


@contextmanager
def _examined(staged: Staged, stands: Position | None, request: BackupRequest, *, site: HostContext) -> Iterator[_Ready]:
    with examining(staged, request.database, monotonic=site.clock.monotonic) as found:
        yield _Ready(staged=staged, position=stands, examine=found.result, checked=str(request.database.check))


@contextmanager
def _staged(
    source: DatabaseSource, request: BackupRequest, scratch: Path, *, site: HostContext, costs: list[PhaseCost]
) -> Iterator[Staged]:
    limits = StageLimits(
        busy_timeout_seconds=request.database.busy_timeout_seconds, busy_window_seconds=request.database.busy_window_seconds
    )
    begun = site.clock.monotonic()
    with stage_copy(source, scratch, limits=limits, clock=site.clock) as staged:
        seconds = site.clock.monotonic() - begun
        costs.append(PhaseCost(phase="stage", seconds=seconds, n_bytes=staged.n_pages * staged.page_size))
        yield staged


def _of_source(source: DatabaseSource) -> str:
    mode = f"WAL mode, {source.wal_bytes} bytes of WAL" if source.wal else "rollback-journal mode"
    return f"source {source.path}: {source.size_bytes} bytes, pages of {source.page_size}, {mode}"


def _of_draft(drafted: PendingBackup) -> str:
    choice = drafted.choice
    parent = f"parent {choice.parent.id}" if choice.parent else "no parent"
    key = f"key {drafted.key_id}" if drafted.key_id else "not encrypted"
    return f"{drafted.id}: {choice.strategy}, {parent} ({choice.reason}), {key}, storage {drafted.storage}"


def _of_judged(found: Examined, judged: anomaly_watch.Judged) -> str:
    problems = "; ".join(found.problems[:5]) or "nothing wrong"
    unlike = "; ".join(f"{one.name}: {one.text}" for one in judged.anomalies) or "no anomaly"
    return f"check: {problems}; {judged.note}; {unlike}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    source: DatabaseSource
    staged: Staged
    examined: Examined
    costs: tuple[PhaseCost, ...]
    checked: str
    position: Position | None

    @property
    def checked_whole(self) -> bool:
        """False where rows were counted in the database itself, a little later: that is no fact about the backup."""
        return not self.staged.digests


def _manifest(drafted: PendingBackup, layer: StoredLayer, facts: _Facts, *, site: HostContext) -> Manifest:
    source, staged = facts.source, facts.staged
    reasons = (*staged.damaged, *facts.examined.problems)
    backup = Backup(
        id=drafted.id,
        database=drafted.database,
        storage="",
        strategy=drafted.choice.strategy,
        status=BackupStatus.SUSPECT if reasons else BackupStatus.COMPLETED,
        created_at=staged.taken_at,
        finished_at=site.clock.now(),
        parent_id=None if drafted.choice.parent is None else drafted.choice.parent.id,
        base_id=drafted.base_id,
        page_size=staged.page_size,
        n_pages=staged.n_pages,
        root=layer.root,
        original_size_bytes=staged.n_pages * staged.page_size,
        layer_size_bytes=layer.n_pages * staged.page_size,
        stored_size_bytes=layer.stored_bytes,
        codec=site.settings.compression_algorithm,
        cipher=drafted.cipher,
        key_id=drafted.key_id,
        host=site.host,
        suspect_reasons=reasons[:MAX_REASONS],
        position=facts.position,
    )
    return Manifest(
        repository_id=drafted.identity.repository_id,
        backup=backup,
        source=SourceFacts(
            path=str(source.path), mode=source.mode, uid=source.uid, gid=source.gid, journal_mode=staged.journal_mode
        ),
        wrapped_key=drafted.wrapped_key,
        objects=layer.objects,
        checked=str(facts.checked),
        tool_version=__version__,
        sqlite_version=staged.sqlite_version,
        schema_digest=facts.examined.schema_digest,
        row_counts=facts.examined.row_counts if facts.checked_whole else (),
        profile=phase_costs.added(facts.costs),
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
