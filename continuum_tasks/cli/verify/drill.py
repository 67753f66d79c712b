"""continuum backup test-restore, continuum backup drill."""

from __future__ import annotations

import click

from continuum_tasks.cli.frame import dispatch, enqueue, output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_facts, print_table
from continuum_tasks.cli.select.backups import one_usable
from continuum_tasks.errors import UsageError
from continuum_tasks.host.job_kinds import RunDrill, RunTestRestore
from continuum_tasks.model import Backup, BackupId, Rehearsal
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.find_backup import locate, look_up
from continuum_tasks.restore.resolve_point import PointQuery, check_point_query, resolve_point
from continuum_tasks.runtime import Runtime
from continuum_tasks.verify.drill import Drilled


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
    wanted = PointQuery(backup_id=backup_id, latest=latest, database=database, storage=storage)
    check_point_query(wanted)
    how = dispatch.execution_mode(local)
    with open_runtime_of_command() as runtime:
        point = output.print_remarks(resolve_point(wanted, runtime=runtime))
        done = dispatch.execute(_work(point.backup, RunTestRestore), runtime, how)
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
            backup = output.print_remarks(locate(runtime, backup_id, storage=storage))
        else:
            backup = _by_chance(runtime, database or runtime.config.default_database, storage=storage)
        done = dispatch.execute(_work(backup, RunDrill), runtime, how)
        log = str(runtime.config.drill_log)
    _show(done, log=log)


def _by_chance(runtime: Runtime, database: str, *, storage: str) -> Backup:
    found = output.print_remarks(look_up(runtime, storage=storage))
    mine = [backup for backup in found.backups if backup.database == database]
    if found.unread and not mine:
        raise found.unread[0]
    backup = one_usable(runtime, mine, storage=storage)
    output.remark(f"picked: {backup.id}, created {output.moment(backup.created_at)} UTC")
    return backup


def _work(backup: Backup, rehearsal: type[RunTestRestore] | type[RunDrill]) -> enqueue.Subject:
    work = rehearsal(backup_id=backup.id, storage=backup.storage)
    return enqueue.Subject(
        arguments=work,
        title=f"{'drill' if rehearsal is RunDrill else 'test-restore'} of {backup.id}",
        database=backup.database,
        seen_by=f"`continuum backup info {backup.id}` shows the verdict when it is there",
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
