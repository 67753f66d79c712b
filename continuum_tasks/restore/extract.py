"""Restore rows of one table from a backup, into a live database or out as text, while the service runs.

The backup is assembled in the temporary directory and proven; rows are picked there; only they meet the live database.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from continuum_tasks.assembly.commit_log import CommitView
from continuum_tasks.assembly.fan_out import Fan
from continuum_tasks.assembly.restore_point import RestorePoint, read_restore_point
from continuum_tasks.errors import ContinuumError, NoSpace
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, BackupId, CommitRef, Progress
from continuum_tasks.repository.repository import Repository
from continuum_tasks.restore import recovery_log
from continuum_tasks.restore.rows import insert, render
from continuum_tasks.restore.rows.match import SAMPLE, Match, OnConflict
from continuum_tasks.restore.rows.select import SelectedRows, check_expression, select_rows
from continuum_tasks.restore.temporary_file import assembled

SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractRequest:
    """Which rows of which backup; `into` a live database, else out. An empty `where` means all rows.

    `commit`: not of the backup itself but of the state after this commit, which the backup is the base of.
    """

    backup_id: BackupId
    table: str
    where: str = ""
    into: Path | None = None
    on_conflict: OnConflict = OnConflict.FAIL
    dry_run: bool = False
    region: str = ""
    commit: CommitRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Out:
    """Where rows are written to as text."""

    stream: BinaryIO
    form: render.Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What was found and done. `commit` is the one after which the rows were so, `backup` then its base.

    `brought` is None for a dry run and without a live database; `match` without one. `shown` are the first rows: of those to
    be written where there is a live database, else of all.
    """

    backup: Backup
    table: str
    columns: tuple[str, ...]
    n_rows: int
    shown: tuple[dict[str, Any], ...]
    match: Match | None = None
    refused: ContinuumError | None = None
    brought: insert.InsertedRows | None = None
    warnings: tuple[str, ...] = ()
    commit: CommitView | None = None


def extract_rows(
    request: ExtractRequest, *, repository: Repository, site: HostContext, fan: Fan, out: Out | None = None
) -> Generator[Progress, None, Extracted]:
    """Pick rows and write them into `request.into`, or to `out`; yields progress.

    Raises BackupNotFound, KeyringError, IntegrityError, StorageError, NoSpace, UsageError (table, expression), and for a
    live database SourceError, TargetError: then nothing was written. What would stop it is returned by a dry run.
    """
    check_expression(request.where)  # what is typed wrong is said before minutes of fetching
    if request.into is not None:
        insert.check_insertable(request.into, accepted=site.accepts(request.into))
    yield Progress(phase="plan")
    wanted = read_restore_point(request.backup_id, request.commit, repository=repository, site=site)
    with site.scratch() as work:
        copy = yield from assembled(wanted, work, repository=repository, site=site, fan=fan)
        yield Progress(phase="pick", total_bytes=wanted.size_bytes)
        picked = select_rows(copy, work / "picked.db", request.table, where=request.where)
        copy.unlink()  # its space may be needed by the live database
        if request.into is None:
            shown = render.values(picked, limit=SHOWN)
            if out is not None:
                _write(picked, out)
            return _extracted(wanted, picked, shown)
        return (yield from _bring(request, wanted, picked, site=site))


def _bring(
    request: ExtractRequest, wanted: RestorePoint, picked: SelectedRows, *, site: HostContext
) -> Generator[Progress, None, Extracted]:
    assert request.into is not None
    yield Progress(phase="compare", detail=f"{picked.n_rows} rows")
    found = insert.inspect_insert(picked, request.into, on_conflict=request.on_conflict)
    refused = insert.refused(found, on_conflict=request.on_conflict)
    shown = render.values(picked, limit=SAMPLE, ids=found.sample)
    if request.dry_run:
        return replace(_extracted(wanted, picked, shown), match=found, refused=refused)
    if refused is not None:
        raise refused
    yield Progress(phase="write", detail=preview_text(picked.n_rows, found))
    brought = insert.insert_rows(picked, request.into, on_conflict=request.on_conflict, monotonic=site.clock.monotonic)
    recovery = recovery_log.Recovery(
        kind=recovery_log.RecoveryKind.EXTRACT,
        at=site.clock.now(),
        target=str(request.into.absolute()),
        backup_id=wanted.backup.id,
        database=wanted.backup.database,
        storage=wanted.backup.storage,
        timeline="" if wanted.seen is None else wanted.seen.timeline,
        commit=0 if wanted.seen is None else wanted.seen.number,
        region=request.region,
        table=picked.shape.name,
        where=request.where,
        n_rows=brought.n_inserted + brought.n_replaced,
    )
    warnings = recovery_log.note_recovery(recovery, site=site)
    return replace(_extracted(wanted, picked, shown), match=found, brought=brought, warnings=warnings)


def _write(picked: SelectedRows, out: Out) -> None:
    for line in render.written(picked, out.form):
        try:
            out.stream.write(line)
        except BrokenPipeError:  # nobody reads any more: the command line's matter
            raise
        except OSError as err:
            raise NoSpace(f"{picked.shape.name}: rows cannot be written ({err.strerror})", hint="free space there") from err


def preview_text(n_rows: int, found: Match) -> str:
    """Return the preview in a few words."""
    return f"{n_rows} rows picked: {found.n_new} new, {found.n_same} there already, {found.n_conflicts} with other content"


def _extracted(wanted: RestorePoint, picked: SelectedRows, shown: list[dict[str, Any]]) -> Extracted:
    return Extracted(
        backup=wanted.backup,
        commit=wanted.seen,
        table=picked.shape.name,
        columns=picked.columns,
        n_rows=picked.n_rows,
        shown=tuple(shown),
    )
