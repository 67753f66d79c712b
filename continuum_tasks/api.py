"""Backups from Python: what the commands do, as functions that return values, raise errors and print nothing.

    with open_installation("/etc/continuum") as installation:
        made = make_backup(installation, Strategy.INCREMENTAL)
        restore_state(installation, newest_state(installation), Path("/tmp/memory.db"))

Everything is done in this process, as with `--local`; `continuum up` may run beside it. Sizes are in bytes, durations in
seconds, instants are aware datetimes in UTC. An empty `database` or `storage` is the default one of the configuration.

Every function may raise, beside what it names: StorageError (a storage refused or failed), KeyringError (a key is missing or
wrong), IntegrityError (stored bytes are damaged; the message names the object) and ConfigError. All are ContinuumError of
`continuum_tasks.errors`: `message` says what is wrong, `hint` what to do.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from continuum_tasks.assembly.commit_log import CommitView
from continuum_tasks.backup.choose_parent import BackupRequest
from continuum_tasks.backup.create import create_backup
from continuum_tasks.capture.list_commits import CommitQuery, list_commits
from continuum_tasks.config import find_config_directory, load_config
from continuum_tasks.errors import BackupNotFound, UsageError
from continuum_tasks.health.health import HealthReport, check_health
from continuum_tasks.host.audit_trail import AuditEntry, user
from continuum_tasks.model import Attestation, Backup, BackupId, CommitRef, Hold, Level, Progress, Strategy
from continuum_tasks.restore.extract import Extracted, ExtractRequest, Out, extract_rows
from continuum_tasks.restore.find_backup import BackupListing, look_up
from continuum_tasks.restore.find_commits import CommitSelection
from continuum_tasks.restore.preview import Preview, preview_restore
from continuum_tasks.restore.resolve_point import PointQuery, ResolvedPoint, resolve_point
from continuum_tasks.restore.restore import Restored, RestoreRequest, restore_backup
from continuum_tasks.restore.rows.match import OnConflict
from continuum_tasks.restore.rows.render import Form
from continuum_tasks.restore.undo import Undone, undo_restore
from continuum_tasks.retention.hold import hold_backup, release_backup
from continuum_tasks.runtime import Runtime, finish, open_runtime
from continuum_tasks.tasks import audited_run
from continuum_tasks.tasks.health import surroundings
from continuum_tasks.units import microseconds
from continuum_tasks.verify.verify import VerifyRequest, verify_backup_chain

__all__ = [
    "Installation",
    "OnConflict",
    "RowQuery",
    "RowTarget",
    "StoredState",
    "captured_commits",
    "health_report",
    "keep_backup",
    "make_backup",
    "newest_state",
    "open_installation",
    "preview_of_restore",
    "put_back_replaced",
    "read_rows",
    "restore_state",
    "state_after_commit",
    "state_at",
    "state_of_backup",
    "stop_keeping",
    "stored_backups",
    "verify_stored",
    "write_rows",
]

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One opened configuration; make it with `open_installation`. `on_progress` hears of every step of long work."""

    runtime: Runtime
    on_progress: Callable[[Progress], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """A state of a database that can be restored: that of a backup, or the one after `commit`, whose base the backup is."""

    backup: Backup
    commit: CommitView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """Rows of one table; `where` is an SQL expression that can only read the backup, empty = all rows."""

    table: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTarget:
    """The live database that rows go into. `on_conflict`: for rows that are there with other content."""

    path: Path
    on_conflict: OnConflict = OnConflict.FAIL
    dry_run: bool = False


@contextmanager
def open_installation(
    config_dir: str | Path | None = None, *, on_progress: Callable[[Progress], None] | None = None
) -> Iterator[Installation]:
    """Open the configuration of a directory; None means CONTINUUM_CONFIG_DIR, else /etc/continuum.

    `on_progress` is called in the thread that works, often many times a second; what it raises ends the work, which then
    leaves source, target and storage as they were. Use an installation from one thread. Raises ConfigError.
    """
    directory = find_config_directory(None if config_dir is None else str(config_dir), os.environ)
    with open_runtime(load_config(directory)) as runtime:
        yield Installation(runtime=runtime, on_progress=on_progress)


def make_backup(
    installation: Installation, strategy: Strategy = Strategy.INCREMENTAL, *, database: str = "", storage: str = ""
) -> Backup:
    """Back up a database now and return the backup; its `strategy` is FULL where there was nothing to build on.

    Raises SourceError where the database cannot be read, DatabaseLocked when another run works on it, UsageError.
    """
    runtime = installation.runtime
    settings = runtime.config.database(database)
    request = BackupRequest(database=settings, strategy=strategy, is_default=settings.name == runtime.config.default_database)
    repository = runtime.repository(storage or settings.storage)
    steps = create_backup(request, repository=repository, site=runtime.site, fan=runtime.fan(), check_lease=_nobody_else)
    entry = AuditEntry(action="create", subject=settings.name, by=user(), detail=f"{strategy}, {repository.name}")
    return _perform(installation, steps, entry).backup


def stored_backups(installation: Installation, *, database: str = "", storage: str = "") -> tuple[Backup, ...]:
    """Return the backups this host knows, newest first; empty names mean all.

    A storage that is named, or that this host never saw, is read itself.
    """
    listing: BackupListing = finish(look_up(installation.runtime, storage=storage))
    if listing.unread:
        raise listing.unread[0]
    return tuple(one for one in listing.backups if database in ("", one.database))


def state_of_backup(installation: Installation, backup_id: str, *, storage: str = "") -> StoredState:
    """Return the state that a backup holds, of several copies the default storage's.

    Raises BackupNotFound, also for a text that is no backup id.
    """
    try:
        wanted = BackupId(backup_id)
    except ValueError as err:
        raise BackupNotFound(f"backup {backup_id[:128]}: not found", hint="`stored_backups` returns what there is") from err
    return _resolved(installation, PointQuery(backup_id=wanted, storage=storage))


def newest_state(installation: Installation, *, database: str = "") -> StoredState:
    """Return the newest usable backup of a database, of several copies the default storage's.

    Raises BackupNotFound, UsageError.
    """
    return _resolved(installation, PointQuery(backup_id=None, latest=True, database=database))


def state_at(installation: Installation, when: datetime, *, database: str = "") -> StoredState:
    """Return what stands for an instant: a captured commit, else the last usable backup at or before it, as `--pitr` does.

    `when` has a time zone. A storage of commits that is away leaves the backups: `commit` is None. Raises BackupNotFound:
    everything is later, or the instant lies in a hole between commits, whose edges it names, with a backup made inside;
    NewerFormat: a newer version wrote a timeline; UsageError.
    """
    if when.tzinfo is None:
        raise UsageError(f"{when.isoformat()}: has no time zone", hint="use an aware datetime, as datetime.now(UTC)")
    return _resolved(installation, PointQuery(backup_id=None, pitr=when, database=database))


def state_after_commit(installation: Installation, number: int, *, database: str = "") -> StoredState:
    """Return the state after a captured commit of the newest timeline.

    Raises BackupNotFound naming the range there is; NewerFormat: a newer version wrote a timeline; UsageError.
    """
    return _resolved(installation, PointQuery(backup_id=None, commit=number, database=database))


def captured_commits(
    installation: Installation, *, database: str = "", limit: int = 20, around: datetime | None = None
) -> tuple[CommitView, ...]:
    """Return captured commits, newest first: the newest, or those around an instant. Empty where none was captured.

    Raises NewerFormat: a newer version wrote a timeline; UsageError.
    """
    runtime = installation.runtime
    wanted = CommitQuery(limit=limit, around_us=None if around is None else microseconds(around))
    name = runtime.config.database(database).name
    commits = CommitSelection(runtime=runtime, database=name, storage="", timeline=None)
    return tuple(entry.seen for entry in list_commits(commits.logs(), wanted))


def preview_of_restore(installation: Installation, state: StoredState, target: str | Path) -> Preview:
    """Say what a restore would read, need and lose; writes nothing. `refused` says why it would not be done."""
    steps = preview_restore(_restore_request(state, target), exact=False, **_where(installation, state))
    return _perform(installation, steps)


def restore_state(
    installation: Installation, state: StoredState, target: str | Path, *, overwrite: bool = False, verify: bool = False
) -> Restored:
    """Restore a state to a path, every page proven before it is installed by one rename.

    `overwrite` replaces a file that is there; that one is kept in `quarantine`. `verify` also runs SQLite's integrity check.
    Raises TargetError (exists, in use, no space), BackupNotFound; on any error the target is as it was.
    """
    request = _restore_request(state, target, overwrite=overwrite, verify=verify)
    entry = AuditEntry(action="restore", subject=str(request.target), by=user(), detail=f"{state.backup.id}")
    steps = restore_backup(request, **_where(installation, state), check_lease=_nobody_else)
    return _perform(installation, steps, entry)


def put_back_replaced(installation: Installation, target: str | Path) -> Undone:
    """Put back the file that the last restore to a path replaced. Raises TargetError; BackupNotFound when there is none."""
    path = Path(target).absolute()
    steps = undo_restore(path, site=installation.runtime.site)
    return _perform(installation, steps, AuditEntry(action="undo", subject=str(path), by=user()))


def verify_stored(installation: Installation, backup: Backup, *, level: Level = Level.RESTORE) -> Attestation:
    """Prove a backup from its storage alone and store the verdict beside it.

    Raises what failed, mostly IntegrityError, after a failed verdict was stored.
    """
    runtime = installation.runtime
    request = VerifyRequest(backup_id=backup.id, level=level)
    repository = runtime.repository(backup.storage)
    steps = verify_backup_chain(request, repository=repository, site=runtime.site, fan=runtime.fan())
    entry = AuditEntry(action="verify", subject=backup.id, by=user(), detail=f"{level}, {backup.storage}")
    return _perform(installation, steps, entry).attestation


def read_rows(installation: Installation, state: StoredState, query: RowQuery) -> tuple[dict[str, Any], ...]:
    """Return rows of a stored state by column; a BLOB is `{"base64": ..., "type": "blob"}`. All are held in memory.

    Raises UsageError for a table or expression that makes no sense, NoSpace in the temporary directory.
    """
    text = io.BytesIO()
    request = ExtractRequest(backup_id=state.backup.id, commit=_ref(state), table=query.table, where=query.where)
    out = Out(stream=text, form=Form.LINES)
    _perform(installation, extract_rows(request, **_where(installation, state), out=out))
    return tuple(json.loads(line) for line in text.getvalue().splitlines())


def write_rows(installation: Installation, state: StoredState, query: RowQuery, target: RowTarget) -> Extracted:
    """Insert rows of a stored state into a live database in one transaction; rows that are there already are left alone.

    Raises TargetError and SourceError, then nothing was written; what would stop a dry run is in `refused`. Seconds that
    writers waited are in `brought.locked_seconds`.
    """
    request = ExtractRequest(
        backup_id=state.backup.id,
        commit=_ref(state),
        table=query.table,
        where=query.where,
        into=target.path.absolute(),
        on_conflict=target.on_conflict,
        dry_run=target.dry_run,
    )
    entry = AuditEntry(action="extract", subject=str(request.into), by=user(), detail=f"{state.backup.id}, {query.table}")
    steps = extract_rows(request, **_where(installation, state))
    return _perform(installation, steps, None if target.dry_run else entry)


def keep_backup(installation: Installation, backup: Backup, reason: str) -> Hold:
    """Keep a backup, and what it needs, until `stop_keeping`, whatever the policy says. Raises BackupNotFound."""
    runtime = installation.runtime
    return hold_backup(backup, reason, by=user(), repository=runtime.repository(backup.storage), site=runtime.site)


def stop_keeping(installation: Installation, backup: Backup) -> Hold | None:
    """Let the policy decide over a backup again; returns the hold it had, None where it had none."""
    runtime = installation.runtime
    return release_backup(backup, by=user(), repository=runtime.repository(backup.storage), site=runtime.site)


def health_report(installation: Installation) -> HealthReport:
    """Look at everything that backups and restores depend on, as `continuum backup health`; asks storages and the broker."""
    return check_health(surroundings(installation.runtime))


def _perform(installation: Installation, steps: Generator[Progress, None, T], entry: AuditEntry | None = None) -> T:
    work = audited_run.with_audit(steps, entry, site=installation.runtime.site, tell=_log.warning)
    try:
        while True:
            progress = next(work)
            if installation.on_progress is not None:
                installation.on_progress(progress)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        work.close()


def _where(installation: Installation, state: StoredState) -> dict[str, Any]:
    runtime = installation.runtime
    return {"repository": runtime.repository(state.backup.storage), "site": runtime.site, "fan": runtime.fan()}


def _resolved(installation: Installation, query: PointQuery) -> StoredState:
    """Find the state that is meant, by the rules of the commands."""
    point: ResolvedPoint = finish(resolve_point(query, runtime=installation.runtime))
    return StoredState(backup=point.backup, commit=point.seen)


def _ref(state: StoredState) -> CommitRef | None:
    return None if state.commit is None else state.commit.ref


def _restore_request(
    state: StoredState, target: str | Path, *, overwrite: bool = False, verify: bool = False
) -> RestoreRequest:
    return RestoreRequest(
        backup_id=BackupId(state.backup.id),
        commit=_ref(state),
        target=Path(target).absolute(),
        overwrite=overwrite,
        verify=verify,
    )


def _nobody_else() -> None:
    """A run in this process holds no lease that another one could take."""
