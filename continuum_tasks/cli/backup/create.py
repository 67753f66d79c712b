"""continuum backup create."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from continuum_tasks.backup.create import Finished, check_admission
from continuum_tasks.cli.frame import dispatch, enqueue, output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, backup_facts, backup_fields, print_facts, print_table
from continuum_tasks.errors import UsageError
from continuum_tasks.host import routing
from continuum_tasks.host.job_kinds import CreateBackup
from continuum_tasks.model import BackupStatus, PhaseCost, Strategy
from continuum_tasks.repository.documents import to_json
from continuum_tasks.runtime import Runtime

CONTINUOUS = "continuous"  # no kind of backup: commits are captured from now on
NORMAL = "normal"
PRIORITIES = {"high": routing.RESTORE_PRIORITY, NORMAL: routing.BACKUP_PRIORITY, "low": routing.LOW_PRIORITY}


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """The words of the command; empty names are the defaults of the configuration."""

    strategy: str
    database: str
    storage: str
    debug: bool
    profile: bool
    force: bool
    wait: bool
    priority: str
    local: bool | None


@click.command("create")
@click.option("--strategy", type=click.Choice([*(s.value for s in Strategy), CONTINUOUS]), required=True, help="What to store.")
@parameters.name_option("--database", "A database of backup.conf [default: its default one].")
@parameters.name_option("--storage", "A storage of storage.conf [default: the database's].")
@click.option("--debug", is_flag=True, help="Show every step on standard error, and log it: what was decided, and why.")
@click.option("--profile", is_flag=True, help="Show what each phase took; it is stored in any case.")
@click.option("--force", is_flag=True, help="Make it even if one was made just now, the last failed, or anomalies forbid it.")
@click.option("--wait/--no-wait", default=True, help="Follow it to its end / only queue it, or switch it on [default: --wait].")
@click.option("--priority", type=click.Choice([*PRIORITIES]), default=NORMAL, help="Among queued work [default: normal].")
@dispatch.local_option
@shared_options
def create(**words: Any) -> None:
    """Back up a database now.

    A differential builds on the last full, an incremental on the last usable backup; without one to build on, a full is made
    and the result says why. `continuous` makes none by itself: from now on every commit is captured, until `capture stop`.
    `continuum backup create --strategy full --profile`
    """
    options = CreateOptions(**words)
    if options.strategy == CONTINUOUS:
        _start_capture(options)
        return
    how = replace(dispatch.execution_mode(options.local, wait=options.wait), steps=options.debug)
    with open_runtime_of_command() as runtime:
        done = dispatch.execute(_work(runtime, options), runtime, how)
    if isinstance(done, dispatch.Queued):
        dispatch.say_queued(done)
    else:
        _show(done, options)


def _start_capture(options: CreateOptions) -> None:
    from continuum_tasks.cli.capture import start

    beside = options.storage or options.debug or options.profile or options.force or options.priority != NORMAL
    if beside or options.local is not None:
        raise UsageError(
            f"--strategy {CONTINUOUS} takes --database and --wait or --no-wait alone",
            hint="it is captured into its own storage: `continuum backup config set database:NAME.storage` says which",
        )
    start.start(options.database, wait=options.wait)


def _work(runtime: Runtime, options: CreateOptions) -> enqueue.Subject:
    strategy = Strategy(options.strategy)
    database = runtime.config.database(options.database)
    repository = runtime.config.storage(options.storage or database.storage).name
    if not options.force:
        check_admission(database, repository, site=runtime.site)
    work = CreateBackup(database=database.name, strategy=strategy, storage=repository, debug=options.debug)
    return enqueue.Subject(
        arguments=work,
        title=f"{strategy} backup of {database.name}",
        database=database.name,
        seen_by="`continuum backup list` shows the backup when it is there",
        priority=PRIORITIES[options.priority],
    )


def _show(done: Finished, options: CreateOptions) -> None:
    made, asked_for = done.backup, Strategy(options.strategy)
    if made.status is BackupStatus.SUSPECT:
        output.warn(f"backup {made.id} is suspect: {'; '.join(made.suspect_reasons)}")
    if done.held is not None:
        output.warn(f"backup {done.held} is the last clean one: it is on hold now, so that it does not expire")
    if made.strategy is not asked_for:
        output.warn(f"a {made.strategy} backup was made, not a {asked_for} one: {done.reason}")
    if cli_context().as_json:
        profile = {"profile": to_json(done.profile)} if options.profile else {}
        output.print_document({**backup_fields(made), "reason": done.reason, "held": done.held, **profile})
        return
    print_facts([*backup_facts(made), ("reason", done.reason)])
    if options.profile:
        output.print_text("")
        _show_profile(done.profile)


def _show_profile(profile: Sequence[PhaseCost]) -> None:
    columns = [TableColumn(title="phase"), *(TableColumn(title=name, right=True) for name in ("took", "bytes", "rate"))]
    print_table(columns, [_cost(cost) for cost in profile])
    output.print_text("phases overlap: hash to upload are summed over threads, check and count run in parallel")


def _cost(cost: PhaseCost) -> list[str]:
    rate = f"{output.size(cost.n_bytes / cost.seconds)}/s" if cost.n_bytes and cost.seconds else ""
    return [cost.phase, f"{cost.seconds:.3f} s", output.size(cost.n_bytes) if cost.n_bytes else "", rate]
