"""continuum backup restore."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from continuum_tasks.actions import restore as action
from continuum_tasks.actions import undo
from continuum_tasks.actions.audited import Deed, user
from continuum_tasks.actions.online import Online, busy_window
from continuum_tasks.cli import captured, chosen, emit, params, times, work
from continuum_tasks.cli.asked import asked, opened, shared
from continuum_tasks.cli.hand_over import Row
from continuum_tasks.cli.table import facts
from continuum_tasks.errors import UsageError
from continuum_tasks.model import BackupId, Progress, TimelineId
from continuum_tasks.runtime import Runtime
from continuum_tasks.sqlite.holders import Holder
from continuum_tasks.tasks import routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The words of the command; empty names are the defaults of the configuration."""

    backup_id: BackupId | None
    latest: bool
    pitr: datetime | None
    commit: int | None
    timeline: TimelineId | None
    undo: bool
    database: str
    target: Path
    overwrite: bool
    online: bool
    wait_writers: bool
    verify: bool
    dry_run: bool
    exact: bool
    storage: str
    region: str
    local: bool | None

    @property
    def wanted(self) -> chosen.Wanted:
        return chosen.Wanted(
            backup_id=self.backup_id,
            latest=self.latest,
            pitr=self.pitr,
            commit=self.commit,
            timeline=self.timeline,
            database=self.database,
            storage=self.storage,
        )


@click.command("restore")
@click.argument("backup_id", metavar="[ID]", type=params.backup_id, required=False)
@click.option("--latest", is_flag=True, help="Instead of ID: the newest completed backup whose whole chain is good.")
@times.time_option("--pitr", "Instead of ID: the state at this time, as 2025-12-06T14:30:00Z or 24h.")
@params.commit_options
@click.option("--undo", is_flag=True, help="Put back the file that the last restore to --target replaced.")
@params.name_option("--database", "With --latest, --pitr or --commit: of this database [default: the default one].")
@click.option("--target", type=params.file, required=True, metavar="PATH", help="The file to write.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there; it is kept beside the target, quarantined.")
@click.option("--online", is_flag=True, help="Write it into the live file, in one transaction, while the service goes on.")
@click.option("--wait-writers", is_flag=True, help="With --online: writers may wait for longer than the busy window.")
@click.option("--verify", is_flag=True, help="Also let SQLite check the whole file before it takes its place.")
@click.option("--dry-run", is_flag=True, help="Change nothing: print the plan, and the rows per table that would be lost.")
@click.option("--exact", is_flag=True, help="With --dry-run: fetch the backup and compare the rows themselves, not counts.")
@params.name_option("--storage", "Take it from this storage.")
@params.region_option
@work.local_option
@shared
def restore(**words: Any) -> None:
    """Restore a backup, or the state at a time or after a commit, to a path.

    Where commits are captured a time is exact to the commit, else it is the last usable backup at or before it. The file is
    assembled beside the target, proven page by page and installed by one rename: until then the target is what it was.
    `continuum backup restore --latest --target /var/lib/continuum/memory.db --overwrite --verify`
    """
    options = Options(**words)
    _check(options)
    how = work.manner(options.local)
    with opened() as runtime:
        if options.undo:
            _undo(runtime, options)
            return
        runtime = runtime.in_region(options.region, storage=options.storage)
        state = chosen.choose(runtime, options.wanted)
        if options.dry_run:
            _preview(runtime, state, options)
            return
        done = work.do(_work(state, options, runtime), runtime, how)
    _show(done)


def _check(options: Options) -> None:
    if options.wait_writers and not options.online:
        raise UsageError("--wait-writers only means something with --online", hint="add --online, or leave it out")
    if options.exact and not options.dry_run:
        raise UsageError("--exact only means something with --dry-run", hint="add --dry-run, or leave it out")
    if not options.undo:
        chosen.check(options.wanted)
        return
    beside = options.backup_id or options.latest or options.pitr or options.commit or options.timeline
    where = options.database or options.storage or options.region
    if beside or where or options.verify or options.exact or options.online:
        raise UsageError(
            "--undo takes --target and --dry-run alone: it puts back what the last restore there replaced",
            hint="leave the other options out",
        )


def _request(state: chosen.Chosen, options: Options, runtime: Runtime) -> action.Request:
    window = busy_window(runtime.config, options.target, state.backup.database) if options.online else 0.0
    return action.Request(
        backup_id=state.backup.id,
        commit=state.commit,
        target=options.target,
        overwrite=options.overwrite,
        verify=options.verify,
        region=options.region,
        online=Online(busy_window_seconds=window, wait_writers=options.wait_writers) if options.online else None,
    )


def _work(state: chosen.Chosen, options: Options, runtime: Runtime) -> work.Work:
    backup, request = state.backup, _request(state, options, runtime)

    def here(runtime: Runtime) -> Generator[Progress, None, action.Restored]:
        repository = runtime.repository(backup.storage)
        return action.run(request, repository=repository, site=runtime.site, fan=runtime.fan(), still_mine=lambda: None)

    return work.Work(
        title=f"restore of {state.name}",
        row=Row(
            kind="restore_backup",
            task=routing.RESTORE_BACKUP,
            args={
                "backup_id": backup.id,
                "target": str(request.target),
                "overwrite": request.overwrite,
                "verify": request.verify,
                "online": options.online,
                "wait_writers": options.wait_writers,
                "database": backup.database,
                "storage": backup.storage,
                "region": request.region,
                "commit": state.seen.number if state.seen else 0,
                "timeline": state.seen.timeline if state.seen else "",
            },
            database=backup.database,
            priority=routing.RESTORE_PRIORITY,
            seen_by=f"{request.target} is {'written into' if options.online else 'replaced'} when it is done",
        ),
        here=here,
        result=action.Restored,
    )


def _preview(runtime: Runtime, state: chosen.Chosen, options: Options) -> None:
    from continuum_tasks.actions import preview
    from continuum_tasks.cli import restore_plan

    steps = preview.run(
        _request(state, options, runtime),
        exact=options.exact,
        repository=runtime.repository(state.backup.storage),
        site=runtime.site,
        fan=runtime.fan(),
    )
    restore_plan.show(work.run_here(steps, title=f"plan of {state.name}"))


def _undo(runtime: Runtime, options: Options) -> None:
    from continuum_tasks.cli import restore_plan

    if options.dry_run:
        restore_plan.show_quarantines(options.target)
        return
    deed = Deed(action="undo", subject=str(options.target), by=user())
    steps = work.witnessed(undo.run(options.target, site=runtime.site), deed, runtime)
    done: undo.Undone = work.run_here(steps, title=f"undo of {options.target.name}")
    for text in done.warnings:
        emit.warn(text)
    if asked().as_json:
        emit.document(
            {
                "target": done.target,
                "put_back": done.put_back,
                "quarantine": done.quarantine or None,
                "size_bytes": done.size_bytes,
                "seconds": done.seconds,
                "warnings": list(done.warnings),
                "kept_out": _processes(done.kept_out),
            }
        )
        return
    facts(
        [
            ("target", f"{done.target} ({emit.size(done.size_bytes)})"),
            ("put back from", done.put_back),
            ("restored file", f"kept in {done.quarantine}" if done.quarantine else "was not there any more"),
            ("took", emit.duration(done.seconds)),
        ]
    )


def _processes(found: tuple[Holder, ...]) -> list[dict[str, Any]]:
    return [{"pid": holder.pid or None, "program": holder.command} for holder in found]


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
                "size_bytes": done.size_bytes,
                "commit": captured.fields(done.commit) if done.commit else None,
                "quarantine": done.quarantine or None,
                "online": _written(done),
                "fetched_bytes": done.fetched_bytes,
                "seconds": done.seconds,
                "warnings": list(done.warnings),
                "kept_out": _processes(done.kept_out),
            }
        )
        return
    facts(
        [
            *_what(done),
            ("target", f"{done.target} ({emit.size(done.size_bytes)}, every page proven)"),
            *_online_facts(done),
            *([("replaced file", f"{done.quarantine} (put it back with --undo)")] if done.quarantine else []),
            ("read", f"{emit.size(done.fetched_bytes)} in {emit.duration(done.seconds)}"),
        ]
    )


def _written(done: action.Restored) -> dict[str, object] | None:
    if done.written is None:
        return None
    return {
        "n_pages_written": done.written.n_pages_written,
        "n_pages": done.written.n_pages,
        "log_bytes": done.written.log_bytes,
        "locked_seconds": done.written.locked_seconds,
    }


def _online_facts(done: action.Restored) -> list[tuple[str, str]]:
    written = done.written
    if written is None:
        return []
    if not written.n_pages_written:
        return [("written", "nothing: the live database had that very state")]
    what = f"{written.n_pages_written} of {written.n_pages} pages, in one transaction"
    return [("written", what), ("writers waited", f"at most {emit.duration(written.locked_seconds)}")]


def _what(done: action.Restored) -> list[tuple[str, str]]:
    if done.commit is None:
        return [("restored", done.backup.id), ("state of", f"{emit.moment(done.backup.created_at)} UTC")]
    return captured.facts(done.commit, done.backup)
