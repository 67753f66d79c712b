"""continuum backup restore."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from continuum_tasks.cli.frame import dispatch, enqueue, output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.parameters import time_option
from continuum_tasks.cli.frame.table import commit_facts, commit_fields, print_facts
from continuum_tasks.config import StorageType
from continuum_tasks.errors import UsageError
from continuum_tasks.host.audit_trail import AuditEntry, user
from continuum_tasks.host.job_kinds import RestoreBackup
from continuum_tasks.model import BackupId, TimelineId
from continuum_tasks.restore import undo
from continuum_tasks.restore.online import Online, busy_window
from continuum_tasks.restore.resolve_point import PointQuery, ResolvedPoint, check_point_query, resolve_point
from continuum_tasks.restore.restore import Restored, RestoreRequest
from continuum_tasks.runtime import Runtime
from continuum_tasks.sqlite.holders import Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
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
    def wanted(self) -> PointQuery:
        return PointQuery(
            backup_id=self.backup_id,
            latest=self.latest,
            pitr=self.pitr,
            commit=self.commit,
            timeline=self.timeline,
            database=self.database,
            storage=self.storage,
        )


@click.command("restore")
@click.argument("backup_id", metavar="[ID]", type=parameters.backup_id, required=False)
@click.option("--latest", is_flag=True, help="Instead of ID: the newest completed backup whose whole chain is good.")
@time_option("--pitr", "Instead of ID: the state at this time, as 2025-12-06T14:30:00Z or 24h.")
@parameters.commit_options
@click.option("--undo", is_flag=True, help="Put back the file that the last restore to --target replaced.")
@parameters.name_option("--database", "With --latest, --pitr or --commit: of this database [default: the default one].")
@click.option("--target", type=parameters.file, required=True, metavar="PATH", help="The file to write.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there; it is kept beside the target, quarantined.")
@click.option("--online", is_flag=True, help="Write it into the live file, in one transaction, while the service runs.")
@click.option("--wait-writers", is_flag=True, help="With --online: writers may wait for longer than the busy window.")
@click.option("--verify", is_flag=True, help="Also let SQLite check the whole file before it takes its place.")
@click.option("--dry-run", is_flag=True, help="Change nothing: print the plan, and the rows per table that would be lost.")
@click.option("--exact", is_flag=True, help="With --dry-run: fetch the backup and compare the rows themselves, not counts.")
@parameters.name_option("--storage", "Take it from this storage.")
@parameters.region_option
@dispatch.local_option
@shared_options
def restore(**words: Any) -> None:
    """Restore a backup, or the state at a time or after a commit, to a path.

    Where commits are captured a time is exact to the commit, else it is the last usable backup at or before it. The file is
    assembled beside the target, proven page by page and installed by one rename: until then the target is what it was.
    `continuum backup restore --latest --target /var/lib/continuum/memory.db --overwrite --verify`
    """
    options = RestoreOptions(**words)
    _check(options)
    how = dispatch.execution_mode(options.local)
    with open_runtime_of_command() as runtime:
        if options.undo:
            _undo(runtime, options)
            return
        runtime = runtime.in_region(options.region, storage=options.storage)
        state = output.print_remarks(resolve_point(options.wanted, runtime=runtime))
        if options.dry_run:
            _preview(runtime, state, options)
            return
        done = dispatch.execute(_work(runtime, state, options), runtime, how)
    _show(done)


def _check(options: RestoreOptions) -> None:
    if options.wait_writers and not options.online:
        raise UsageError("--wait-writers requires --online", hint="add --online, or remove this option")
    if options.exact and not options.dry_run:
        raise UsageError("--exact requires --dry-run", hint="add --dry-run, or remove this option")
    if not options.undo:
        check_point_query(options.wanted)
        return
    beside = options.backup_id or options.latest or options.pitr or options.commit or options.timeline
    where = options.database or options.storage or options.region
    if beside or where or options.verify or options.exact or options.online:
        raise UsageError(
            "--undo takes --target and --dry-run alone: it puts back what the last restore there replaced",
            hint="remove the other options",
        )


def _request(state: ResolvedPoint, options: RestoreOptions, runtime: Runtime) -> RestoreRequest:
    window = busy_window(runtime.config, options.target, state.backup.database) if options.online else 0.0
    return RestoreRequest(
        backup_id=state.backup.id,
        commit=state.commit,
        target=options.target,
        overwrite=options.overwrite,
        verify=options.verify,
        region=options.region,
        online=Online(busy_window_seconds=window, wait_writers=options.wait_writers) if options.online else None,
    )


def _work(runtime: Runtime, state: ResolvedPoint, options: RestoreOptions) -> enqueue.Subject:
    is_s3 = runtime.config.storage(state.backup.storage).type is StorageType.S3  # the region says nothing of other storages
    work = RestoreBackup(
        backup_id=state.backup.id,
        storage=state.backup.storage,
        target=str(options.target),
        overwrite=options.overwrite,
        verify=options.verify,
        region=options.region if is_s3 else "",
        commit=state.seen.number if state.seen else 0,
        timeline=state.seen.timeline if state.seen else "",
        online=options.online,
        wait_writers=options.wait_writers,
        database=state.backup.database,
    )
    return enqueue.Subject(
        arguments=work,
        title=f"restore of {state.name}",
        database=state.backup.database,
        seen_by=f"{options.target} is {'written into' if options.online else 'replaced'} when it is done",
    )


def _preview(runtime: Runtime, state: ResolvedPoint, options: RestoreOptions) -> None:
    from continuum_tasks.cli.restore import plan
    from continuum_tasks.restore import preview

    steps = preview.preview_restore(
        _request(state, options, runtime),
        exact=options.exact,
        repository=runtime.repository(state.backup.storage),
        site=runtime.site,
        fan=runtime.fan(),
    )
    plan.show_plan(dispatch.run_locally(steps, title=f"plan of {state.name}"))


def _undo(runtime: Runtime, options: RestoreOptions) -> None:
    from continuum_tasks.cli.restore import plan

    if options.dry_run:
        plan.show_quarantines(options.target)
        return
    deed = AuditEntry(action="undo", subject=str(options.target), by=user())
    steps = dispatch.with_command_audit(undo.undo_restore(options.target, site=runtime.site), deed, runtime)
    done: undo.Undone = dispatch.run_locally(steps, title=f"undo of {options.target.name}")
    for text in done.warnings:
        output.warn(text)
    if cli_context().as_json:
        output.print_document(
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
    print_facts(
        [
            ("target", f"{done.target} ({output.size(done.size_bytes)})"),
            ("put back from", done.put_back),
            ("restored file", f"kept in {done.quarantine}" if done.quarantine else "was not there any more"),
            ("took", output.duration(done.seconds)),
        ]
    )


def _processes(found: tuple[Holder, ...]) -> list[dict[str, Any]]:
    return [{"pid": holder.pid or None, "program": holder.command} for holder in found]


def _show(done: Restored) -> None:
    for text in done.warnings:
        output.warn(text)
    if cli_context().as_json:
        output.print_document(
            {
                "backup_id": done.backup.id,
                "database": done.backup.database,
                "storage": done.backup.storage,
                "created_at": done.backup.created_at.isoformat(),
                "target": done.target,
                "size_bytes": done.size_bytes,
                "commit": commit_fields(done.commit) if done.commit else None,
                "quarantine": done.quarantine or None,
                "online": _written(done),
                "fetched_bytes": done.fetched_bytes,
                "seconds": done.seconds,
                "warnings": list(done.warnings),
                "kept_out": _processes(done.kept_out),
            }
        )
        return
    print_facts(
        [
            *_what(done),
            ("target", f"{done.target} ({output.size(done.size_bytes)}, every page proven)"),
            *_online_facts(done),
            *([("replaced file", f"{done.quarantine} (put it back with --undo)")] if done.quarantine else []),
            ("read", f"{output.size(done.fetched_bytes)} in {output.duration(done.seconds)}"),
        ]
    )


def _written(done: Restored) -> dict[str, object] | None:
    if done.written is None:
        return None
    return {
        "n_pages_written": done.written.n_pages_written,
        "n_pages": done.written.n_pages,
        "log_bytes": done.written.log_bytes,
        "locked_seconds": done.written.locked_seconds,
    }


def _online_facts(done: Restored) -> list[tuple[str, str]]:
    written = done.written
    if written is None:
        return []
    if not written.n_pages_written:
        return [("written", "nothing: the live database had that very state")]
    what = f"{written.n_pages_written} of {written.n_pages} pages, in one transaction"
    return [("written", what), ("writers waited", f"at most {output.duration(written.locked_seconds)}")]


def _what(done: Restored) -> list[tuple[str, str]]:
    if done.commit is None:
        return [("restored", done.backup.id), ("state of", f"{output.moment(done.backup.created_at)} UTC")]
    return commit_facts(done.commit, done.backup)
