"""continuum backup create."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import click

from continuum_tasks.actions import backup
from continuum_tasks.actions.draft import Request
from continuum_tasks.cli import emit, params, work
from continuum_tasks.cli.asked import asked, opened, shared
from continuum_tasks.cli.fields import backup_facts, backup_fields
from continuum_tasks.cli.hand_over import Row
from continuum_tasks.cli.table import facts
from continuum_tasks.model import Progress, Status, Strategy
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks import routing

PRIORITIES = {"high": routing.RESTORE_PRIORITY, "normal": routing.BACKUP_PRIORITY, "low": routing.LOW_PRIORITY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The words of the command; empty names are the defaults of the configuration."""

    strategy: str
    database: str
    storage: str
    wait: bool
    priority: str
    local: bool | None


@click.command("create")
@click.option("--strategy", type=click.Choice([s.value for s in Strategy]), required=True, help="What to store.")
@params.name_option("--database", "A database of backup.conf [default: its default one].")
@params.name_option("--storage", "A storage of storage.conf [default: the database's].")
@click.option("--wait/--no-wait", default=True, help="Follow the job to its end / only queue it [default: --wait].")
@click.option("--priority", type=click.Choice([*PRIORITIES]), default="normal", help="Among queued work [default: normal].")
@work.local_option
@shared
def create(**words: Any) -> None:
    """Back up a database now.

    A differential builds on the last full, an incremental on the last usable backup; without one to build on, a full is made
    and the result says why.
    """
    options = Options(**words)
    how = work.manner(options.local, wait=options.wait)
    with opened() as runtime:
        done = work.do(_work(runtime, options), runtime, how)
    if isinstance(done, work.Queued):
        work.say_queued(done)
    else:
        _show(done, asked_for=Strategy(options.strategy))


def _work(runtime: Runtime, options: Options) -> work.Work:
    strategy = Strategy(options.strategy)
    database = runtime.config.database(options.database)
    repository = runtime.config.storage(options.storage or database.storage).name
    is_default = database.name == runtime.config.default_database
    request = Request(database=database, strategy=strategy, is_default=is_default)

    def here(runtime: Runtime) -> Generator[Progress, None, backup.Finished]:
        stored_in = runtime.repository(repository)
        return backup.run(request, repository=stored_in, site=runtime.site, fan=runtime.fan(), still_mine=lambda: None)

    return work.Work(
        title=f"{strategy} backup of {database.name}",
        row=Row(
            kind="create_backup",
            task=routing.CREATE_BACKUP,
            args={"database": database.name, "strategy": strategy.value, "storage": repository},
            database=database.name,
            priority=PRIORITIES[options.priority],
            seen_by="`continuum backup list` shows the backup when it is there",
        ),
        here=here,
        result=backup.Finished,
    )


def _show(done: backup.Finished, *, asked_for: Strategy) -> None:
    made = done.backup
    if made.status is Status.SUSPECT:
        emit.warn(f"backup {made.id} is suspect: {'; '.join(made.suspect_reasons)}")
    if made.strategy is not asked_for:
        emit.warn(f"a {made.strategy} backup was made, not a {asked_for} one: {done.reason}")
    if asked().as_json:
        emit.document({**backup_fields(made), "reason": done.reason})
    else:
        facts([*backup_facts(made), ("reason", done.reason)])
