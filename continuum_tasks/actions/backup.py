"""Back up one database: stage a consistent copy, store the pages that are new, commit by writing the manifest.

Order is the proof: objects first, then the manifest (from here on the backup exists), then this host's index of it.
A run that dies before the manifest leaves objects nobody names; one that dies after it leaves a whole backup.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks import __version__, failpoints
from continuum_tasks.actions import digests
from continuum_tasks.actions.draft import Draft, Request, check_there, draft
from continuum_tasks.actions.fan_out import Fan
from continuum_tasks.actions.reserve import released
from continuum_tasks.actions.site import Site
from continuum_tasks.actions.store import Layer, store
from continuum_tasks.lock import Held, hold
from continuum_tasks.model import Backup, Manifest, Progress, SourceFacts, Status
from continuum_tasks.repository import Repository
from continuum_tasks.sqlite import check
from continuum_tasks.sqlite.inspect import Source, inspect
from continuum_tasks.sqlite.snapshot import Staged, StageLimits, stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A backup that exists now, and why it has the strategy it has."""

    backup: Backup
    reason: str


def run(
    request: Request, *, repository: Repository, site: Site, fan: Fan, still_mine: Callable[[], None]
) -> Generator[Progress, None, Finished]:
    """Back up one database; yields progress, returns the backup. `still_mine` raises when this run lost its job.

    Raises SourceError (nothing was stored), DatabaseLocked, StorageError, KeyringError, NoSpace or StaleClaim.
    """
    check_there(repository, site=site)
    with (
        hold(request.database.name, repository.storage, site.contender()) as lock,
        site.scratch() as scratch,
        ExitStack() as ending,
    ):
        failpoints.reach("create.locked")
        source = inspect(request.database.path)
        yield Progress(phase="stage", total_bytes=source.size_bytes)
        with _staged(source, request, scratch, site=site) as staged, _checking(staged, request.database.check) as problems:
            failpoints.reach("create.staged")
            drafted = draft(request, staged, scratch, repository=repository, site=site)
            ending.enter_context(released(drafted.id, repository=repository))
            layer = yield from store(drafted, staged, scratch, site=site, fan=fan)
            failpoints.reach("create.chunks_put")
            yield Progress(phase="check")
            reasons = (*staged.damaged, *problems.result())
            manifest = _manifest(
                drafted, layer, _Facts(source=source, staged=staged, reasons=reasons, checked=request.database.check), site=site
            )
        yield Progress(phase="commit")
        still_mine()
        backup = _commit(manifest, layer, repository=repository, site=site, lock=lock)
    return Finished(backup=backup, reason=drafted.choice.reason)


def _staged(source: Source, request: Request, scratch: Path, *, site: Site) -> AbstractContextManager[Staged]:
    limits = StageLimits(
        busy_timeout_seconds=request.database.busy_timeout_seconds, busy_window_seconds=request.database.busy_window_seconds
    )
    return stage(source, scratch, limits=limits, clock=site.clock)


@contextmanager
def _checking(staged: Staged, how: str) -> Iterator[Future[tuple[str, ...]]]:
    """Check the staged copy beside the work on it: SQLite walks its trees in one thread while others compress."""
    checks = {"quick": check.quick_check, "full": check.integrity_check}
    with ThreadPoolExecutor(1, thread_name_prefix="check") as pool:
        yield pool.submit(checks[how], staged.path) if how in checks else pool.submit(tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    source: Source
    staged: Staged
    reasons: tuple[str, ...]
    checked: str


def _manifest(drafted: Draft, layer: Layer, facts: _Facts, *, site: Site) -> Manifest:
    source, staged = facts.source, facts.staged
    backup = Backup(
        id=drafted.id,
        database=drafted.database,
        storage="",
        strategy=drafted.choice.strategy,
        status=Status.SUSPECT if facts.reasons else Status.COMPLETED,
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
        suspect_reasons=facts.reasons[:20],
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
    )


def _commit(manifest: Manifest, layer: Layer, *, repository: Repository, site: Site, lock: Held) -> Backup:
    lock.check()
    failpoints.reach("create.before_manifest")
    committed = repository.put_manifest(manifest)
    failpoints.reach("create.after_manifest")
    site.catalog.add(committed)
    failpoints.reach("create.catalogued")
    if committed.backup.status is Status.COMPLETED:
        digests.keep(committed.backup, layer.digests, site)
    return committed.backup
