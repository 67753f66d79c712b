"""continuum backup restore."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from continuum_tasks.actions import restore as action
from continuum_tasks.cli import emit, params, shelf, work
from continuum_tasks.cli.asked import asked, opened, shared
from continuum_tasks.cli.hand_over import Row
from continuum_tasks.cli.table import facts
from continuum_tasks.errors import UsageError
from continuum_tasks.model import Backup, BackupId, Progress, Status
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks import routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The words of the command: `backup_id` or `latest`; empty names are the defaults of the configuration."""

    backup_id: BackupId | None
    latest: bool
    database: str
    target: Path
    overwrite: bool
    verify: bool
    storage: str
    local: bool | None


@click.command("restore")
@click.argument("backup_id", metavar="[ID]", type=params.backup_id, required=False)
@click.option("--latest", is_flag=True, help="Instead of ID: the newest completed backup whose whole chain is good.")
@params.name_option("--database", "With --latest: of this database [default: the default one].")
@click.option("--target", type=params.file, required=True, metavar="PATH", help="The file to write.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there; it is kept beside the target, quarantined.")
@click.option("--verify", is_flag=True, help="Also let SQLite check the whole file before it takes its place.")
@params.name_option("--storage", "Take it from this storage.")
@work.local_option
@shared
def restore(**words: Any) -> None:
    """Restore a backup to a path.

    The file is assembled beside the target, proven page by page and installed by one rename: until then the target is what it
    was.
    """
    options = Options(**words)
    _check(options)
    how = work.manner(options.local)
    with opened() as runtime:
        backup = _choose(runtime, options)
        if backup.status is Status.SUSPECT:
            emit.warn(f"backup {backup.id} is suspect: its source was damaged when it was made; an older one may be sound")
        done = work.do(_work(backup, options), runtime, how)
    _show(done)


def _check(options: Options) -> None:
    if (options.backup_id is None) != options.latest:
        raise UsageError("name one backup: an ID or --latest, not both", hint="`continuum backup list` shows the ids")
    if options.database and not options.latest:
        raise UsageError("--database only means something with --latest", hint="leave it out: the ID says which database")


def _choose(runtime: Runtime, options: Options) -> Backup:
    if options.backup_id is not None:
        return shelf.locate(runtime, options.backup_id, storage=options.storage)
    backup = shelf.latest(runtime, database=options.database, storage=options.storage)
    emit.remark(f"latest: {backup.id}, created {emit.moment(backup.created_at)} UTC")
    return backup


def _work(backup: Backup, options: Options) -> work.Work:
    request = action.Request(backup_id=backup.id, target=options.target, overwrite=options.overwrite, verify=options.verify)

    def here(runtime: Runtime) -> Generator[Progress, None, action.Restored]:
        repository = runtime.repository(backup.storage)
        return action.run(request, repository=repository, site=runtime.site, fan=runtime.fan(), still_mine=lambda: None)

    return work.Work(
        title=f"restore of {backup.id}",
        row=Row(
            kind="restore_backup",
            task=routing.RESTORE_BACKUP,
            args={
                "backup_id": backup.id,
                "target": str(request.target),
                "overwrite": request.overwrite,
                "verify": request.verify,
                "storage": backup.storage,
            },
            database=backup.database,
            priority=routing.RESTORE_PRIORITY,
            seen_by=f"{request.target} is replaced when it is done",
        ),
        here=here,
        result=action.Restored,
    )


def _show(done: action.Restored) -> None:
    for text in done.warnings:
        emit.warn(text)
    if asked().as_json:
        emit.document(
            {
                "backup_id": done.backup.id,
                "database": done.backup.database,
                "storage": done.backup.storage,
                "created_at": done.backup.created_at.isoformat(),
                "target": done.target,
                "size_bytes": done.backup.original_size_bytes,
                "quarantine": done.quarantine or None,
                "fetched_bytes": done.fetched_bytes,
                "seconds": done.seconds,
                "warnings": list(done.warnings),
            }
        )
        return
    facts(
        [
            ("restored", done.backup.id),
            ("state of", f"{emit.moment(done.backup.created_at)} UTC"),
            ("target", f"{done.target} ({emit.size(done.backup.original_size_bytes)}, every page proven)"),
            *([("replaced file", done.quarantine)] if done.quarantine else []),
            ("read", f"{emit.size(done.fetched_bytes)} in {emit.duration(done.seconds)}"),
        ]
    )
