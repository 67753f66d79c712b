"""continuum backup apply-retention."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import click

from continuum_tasks.cli.frame import dispatch, enqueue, output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.errors import ContinuumError
from continuum_tasks.host import routing
from continuum_tasks.host.audit_trail import user
from continuum_tasks.host.job_kinds import ApplyRetention
from continuum_tasks.model import Progress
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.find_backup import index_unseen
from continuum_tasks.retention.expire import Applied, KeepDecision, RetentionRequest, policy_of, preview_retention
from continuum_tasks.retention.plan.keep_reasons import LEAST
from continuum_tasks.runtime import Runtime
from continuum_tasks.schedule.queue_due import retention_pairs

STOPPED = 1
Pair = tuple[str, str]
Outcome = Applied | ContinuumError
_LEAST = ", ".join(f"{n} {name}" for name, n in LEAST.items())


@click.command("apply-retention")
@click.option("--dry-run", is_flag=True, help="Show what would be done and why; change nothing.")
@click.option(
    "--aggressive",
    is_flag=True,
    help=f"For full disks: at most a day of grace, and at most {_LEAST}. Nothing that a floor keeps goes.",
)
@parameters.name_option("--database", "Only backups of this database.")
@parameters.name_option("--storage", "Only backups in this storage.")
@dispatch.local_option
@shared_options
def apply_retention(dry_run: bool, aggressive: bool, database: str, storage: str, local: bool | None) -> None:
    """Expire backups that retention.conf does not keep, roll chains forward, delete what killed runs left.

    \b
    Example: continuum backup apply-retention --dry-run
    """
    how = dispatch.execution_mode(local)
    outcomes: dict[Pair, Outcome] = {}
    with open_runtime_of_command() as runtime:
        for name in _wanted(runtime, database, storage):
            outcomes[name] = _try(runtime, name, aggressive=aggressive, dry_run=dry_run, how=how)
            _say_trouble(name, outcomes[name])
    _show(outcomes)
    failures = [outcome.exit_code for outcome in outcomes.values() if isinstance(outcome, ContinuumError)]
    stopped = any(isinstance(outcome, Applied) and outcome.stopped for outcome in outcomes.values())
    raise click.exceptions.Exit(failures[0] if failures else STOPPED if stopped else 0)


def _say_trouble(name: Pair, outcome: Outcome) -> None:
    if isinstance(outcome, ContinuumError):
        output.error(outcome)
    elif outcome.stopped:
        output.warn(f"{name[0]} in {name[1]}: nothing expires: {outcome.stopped}")


def _wanted(runtime: Runtime, database: str, storage: str) -> list[Pair]:
    """Return what to work on. Raises UsageError for a name that is not declared, StorageError."""
    if database:
        runtime.config.database(database)
    storages = [runtime.config.storage(storage)] if storage else list(runtime.config.storages)
    for settings in storages:
        output.print_remarks(index_unseen(runtime, settings.name))
    return retention_pairs(runtime, database=database, storage=storage)


def _try(runtime: Runtime, name: Pair, *, aggressive: bool, dry_run: bool, how: dispatch.ExecutionMode) -> Outcome:
    work = _work(name, aggressive=aggressive)
    try:
        if dry_run:
            found: Applied = dispatch.run_locally(_preview(runtime, name, aggressive=aggressive), title=work.title)
        else:
            found = dispatch.execute(work, runtime, how)
    except ContinuumError as err:
        return err
    return found


def _work(name: Pair, *, aggressive: bool) -> enqueue.Subject:
    database, storage = name
    return enqueue.Subject(
        arguments=ApplyRetention(database=database, storage=storage, aggressive=aggressive, by=user()),
        title=f"retention of {database} in {storage}",
        database=database,
        seen_by="`continuum backup list` shows what is left when it is done",
        priority=routing.BACKUP_PRIORITY,  # somebody waits
    )


def _preview(runtime: Runtime, name: Pair, *, aggressive: bool) -> Generator[Progress, None, Applied]:
    database, storage = name
    settings = runtime.config.retention
    request = RetentionRequest(
        database=database,
        policy=policy_of(settings, aggressive=aggressive),
        by=user(),
        pitr_window_seconds=settings.pitr_window_seconds,
    )
    return preview_retention(request, repository=runtime.repository(storage), site=runtime.site)


def _show(outcomes: dict[Pair, Outcome]) -> None:
    if cli_context().as_json:
        output.print_document([_fields(name, outcome) for name, outcome in outcomes.items()])
        return
    if not outcomes:
        output.print_text("no backups")
    for outcome in outcomes.values():
        if isinstance(outcome, Applied):
            _show_one(outcome)


def _fields(name: Pair, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, ContinuumError):
        return {"database": name[0], "storage": name[1], "error": output.error_fields(outcome)}
    counts = {f"n_{verdict}": len(outcome.of(verdict)) for verdict in KeepDecision}
    values: dict[str, Any] = to_json(outcome)
    return {**values, **counts}


def _show_one(done: Applied) -> None:
    columns = [TableColumn(title="backup"), TableColumn(title="stored", right=True), TableColumn(title="fate")]
    rolled = {r.backup_id: r for r in done.roll_forward}
    rows = []
    for decision in done.decisions:
        rows.append(
            [
                decision.backup_id,
                output.size(decision.stored_size_bytes),
                "roll forward" if decision.backup_id in rolled else str(decision.verdict),
                "; ".join((*decision.reasons, *([rolled[decision.backup_id].reason] if decision.backup_id in rolled else []))),
            ]
        )
    output.print_text(f"{done.database} in {done.storage}")
    print_table([*columns, TableColumn(title="why", folds=True)], rows)
    output.print_text(_summary(done))


def _summary(done: Applied) -> str:
    would = "would be " if done.dry_run else ""
    kept, expired, deferred = (len(done.of(verdict)) for verdict in KeepDecision)
    parts = [f"{kept} kept", f"{expired} {would}expired"]
    if deferred:
        parts.append(f"{deferred} left for later runs")
    if done.roll_forward:
        parts.append(f"{len(done.roll_forward)} {would}rolled forward")
    if done.n_orphans:
        parts.append(f"{done.n_orphans} orphans ({output.size(done.orphan_bytes)}) {would}swept")
    segments = done.segments
    if segments.n_segments:
        parts.append(f"{segments.n_segments} segments ({output.size(segments.freed_bytes)}) beyond the window {would}dropped")
    if segments.skipped:
        parts.append(f"segments left: {segments.skipped}")
    freed = output.size(done.freed_bytes) if done.freed_bytes >= 0 else f"-{output.size(-done.freed_bytes)}"
    return f"{', '.join(parts)}: {freed} {would}freed\n"
