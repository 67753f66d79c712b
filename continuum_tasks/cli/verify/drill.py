"""continuum backup test-restore, continuum backup drill."""

from __future__ import annotations

from collections.abc import Generator

import click

from continuum_tasks.cli.frame import dispatch, output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.enqueue import JobRow
from continuum_tasks.cli.frame.table import TableColumn, print_facts, print_table
from continuum_tasks.cli.select import backups
from continuum_tasks.cli.select.backups import one_usable
from continuum_tasks.cli.select.state import StateQuery, check_state_query, choose_state
from continuum_tasks.errors import UsageError
from continuum_tasks.host import routing
from continuum_tasks.model import Backup, BackupId, Progress, Rehearsal
from continuum_tasks.repository.documents import to_json
from continuum_tasks.runtime import Runtime
from continuum_tasks.schedule.plan.schedule import Duty
from continuum_tasks.verify.drill import Drilled, DrillRequest, rehearse

_DUTIES = {
    Rehearsal.TEST_RESTORE: (Duty.TEST_RESTORE, routing.TEST_RESTORE),
    Rehearsal.DRILL: (Duty.DRILL, routing.RUN_DRILL),
}


@click.command("test-restore")
@click.argument("backup_id", metavar="[ID]", type=parameters.backup_id, required=False)
@click.option("--latest", is_flag=True, help="Instead of ID: the newest completed backup whose whole chain is good.")
@parameters.name_option("--database", "With --latest: of this database [default: the default one].")
@parameters.name_option("--storage", "Take it from this storage.")
@dispatch.local_option
@shared_options
def test_restore(backup_id: BackupId | None, latest: bool, database: str, storage: str, local: bool | None) -> None:
    """Restore a backup to scratch, prove it and measure how long each phase takes.

    The verdict is stored as that of `verify`; nothing stays on this host but the measurement.

    \b
    Example:
      continuum backup test-restore --latest
    """
    wanted = StateQuery(backup_id=backup_id, latest=latest, database=database, storage=storage)
    check_state_query(wanted)
    how = dispatch.execution_mode(local)
    with open_runtime_of_command() as runtime:
        done = dispatch.execute(_work(choose_state(runtime, wanted).backup, Rehearsal.TEST_RESTORE), runtime, how)
    _show(done)


@click.command("drill")
@click.argument("backup_id", metavar="[ID]", type=parameters.backup_id, required=False)
@click.option("--random", "by_chance", is_flag=True, help="Instead of ID, and without one: a usable one, never drilled if any.")
@parameters.name_option("--database", "Without ID: of this database [default: the default one].")
@parameters.name_option("--storage", "Take it from this storage.")
@dispatch.local_option
@shared_options
def drill(backup_id: BackupId | None, by_chance: bool, database: str, storage: str, local: bool | None) -> None:
    """Rehearse a disaster: restore a backup to scratch, prove it, and run the checks of [drill] in backup.conf.

    How long each phase took is kept beside the backup, and the drill log gets a line: SUCCESS only when every check passed.

    \b
    Example:
      continuum backup drill --random
    """
    if backup_id is not None and (by_chance or database):
        raise UsageError("an ID says which backup: remove --random and --database", hint="or remove the ID")
    how = dispatch.execution_mode(local)
    with open_runtime_of_command() as runtime:
        if backup_id is not None:
            backup = backups.locate(runtime, backup_id, storage=storage)
        else:
            backup = _by_chance(runtime, database or runtime.config.default_database, storage=storage)
        done = dispatch.execute(_work(backup, Rehearsal.DRILL), runtime, how)
        log = str(runtime.config.drill_log)
    _show(done, log=log)


def _by_chance(runtime: Runtime, database: str, *, storage: str) -> Backup:
    found = backups.look_up(runtime, storage=storage)
    mine = [backup for backup in found.backups if backup.database == database]
    if found.unread and not mine:
        raise found.unread[0]
    backup = one_usable(runtime, mine, storage=storage)
    output.remark(f"picked: {backup.id}, created {output.moment(backup.created_at)} UTC")
    return backup


def _work(backup: Backup, kind: Rehearsal) -> dispatch.Subject:
    duty, task = _DUTIES[kind]

    def here(runtime: Runtime) -> Generator[Progress, None, Drilled]:
        request = DrillRequest(backup=backup, kind=kind)
        repository = runtime.repository(backup.storage)
        return rehearse(request, config=runtime.config, repository=repository, site=runtime.site, fan=runtime.fan())

    return dispatch.Subject(
        title=f"{kind.value} of {backup.id}",
        row=JobRow(
            kind=duty.value,
            task=task,
            args={"backup_id": backup.id, "storage": backup.storage},
            database=backup.database,
            priority=routing.VERIFY_PRIORITY,
            seen_by=f"`continuum backup info {backup.id}` shows the verdict when it is there",
        ),
        here=here,
        result=Drilled,
    )


def _show(done: Drilled, *, log: str = "") -> None:
    record = done.record
    for text in done.remarks:
        output.warn(text)
    if cli_context().as_json:
        extra = {"storage": done.backup.storage, "remarks": list(done.remarks), "output": done.output or None}
        output.print_document({**to_json(record), **extra, "log": log or None})
        return
    print_facts(
        [
            ("drilled" if record.kind is Rehearsal.DRILL else "test restore of", record.backup_id),
            ("state of", f"{output.moment(done.backup.created_at)} UTC"),
            ("verdict", "everything held"),
            ("ready after", f"{output.duration(record.rto_seconds)} ({output.size(done.backup.original_size_bytes)})"),
            *([("command's output", done.output)] if done.output else []),
            *([("log", log)] if log else []),
        ]
    )
    output.print_text("")
    columns = [TableColumn(title="phase"), TableColumn(title="took", right=True), TableColumn(title="bytes", right=True)]
    rows = [[c.phase, output.duration(c.seconds), output.size(c.n_bytes) if c.n_bytes else ""] for c in record.phases]
    print_table(columns, rows)
