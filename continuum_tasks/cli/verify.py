"""continuum backup verify."""

from __future__ import annotations

from collections.abc import Generator

import click

from continuum_tasks.actions import verify as action
from continuum_tasks.cli import emit, params, shelf, work
from continuum_tasks.cli.asked import asked, opened, shared
from continuum_tasks.cli.fields import verdict_fields
from continuum_tasks.cli.hand_over import Row
from continuum_tasks.cli.table import Column, table
from continuum_tasks.errors import ContinuumError
from continuum_tasks.model import Backup, BackupId, Level, Progress
from continuum_tasks.runtime import Runtime
from continuum_tasks.tasks import routing

Outcome = action.Verified | ContinuumError


@click.command("verify")
@click.argument("backup_ids", metavar="ID...", type=params.backup_id, nargs=-1, required=True)
@click.option(
    "--level",
    type=click.Choice([level.value for level in Level]),
    default=Level.RESTORE.value,
    help="objects: stored bytes, no key needed; pages: every page opened; restore: a test restore that SQLite checks"
    " [default: restore].",
)
@params.name_option("--storage", "Verify what this storage holds.")
@work.local_option
@shared
def verify(backup_ids: tuple[BackupId, ...], level: str, storage: str, local: bool | None) -> None:
    """Prove backups from the storage alone and store the verdicts beside them.

    Only a passed `restore` level makes a backup verified. All are tried; the first failure decides the exit code.
    """
    how = work.manner(local)
    outcomes: dict[BackupId, Outcome] = {}
    with opened() as runtime:
        for backup_id in backup_ids:
            outcomes[backup_id] = _one(runtime, backup_id, Level(level), storage=storage, how=how)
            failure = outcomes[backup_id]
            if isinstance(failure, ContinuumError):
                emit.error(failure)
    _show(outcomes)
    failures = [outcome.exit_code for outcome in outcomes.values() if isinstance(outcome, ContinuumError)]
    raise click.exceptions.Exit(failures[0] if failures else 0)


def _one(runtime: Runtime, backup_id: BackupId, level: Level, *, storage: str, how: work.Manner) -> Outcome:
    try:
        backup = shelf.locate(runtime, backup_id, storage=storage)
        verified: action.Verified = work.do(_work(backup, level), runtime, how)
    except ContinuumError as err:
        return err
    return verified


def _work(backup: Backup, level: Level) -> work.Work:
    request = action.Request(backup_id=backup.id, level=level)

    def here(runtime: Runtime) -> Generator[Progress, None, action.Verified]:
        return action.run(request, repository=runtime.repository(backup.storage), site=runtime.site, fan=runtime.fan())

    return work.Work(
        title=f"verify of {backup.id}",
        row=Row(
            kind="verify_backup",
            task=routing.VERIFY_BACKUP,
            args={"backup_id": backup.id, "level": level.value, "storage": backup.storage},
            database=backup.database,
            priority=routing.VERIFY_PRIORITY,
            seen_by=f"`continuum backup info {backup.id}` shows the verdict when it is there",
        ),
        here=here,
        result=action.Verified,
    )


def _show(outcomes: dict[BackupId, Outcome]) -> None:
    if asked().as_json:
        emit.document([_fields(backup_id, outcome) for backup_id, outcome in outcomes.items()])
        return
    columns = [Column(title="backup", folds=True), *(Column(title=name) for name in ("level", "verdict", "took"))]
    table([*columns, Column(title="found", folds=True)], [_row(*item) for item in outcomes.items()])


def _fields(backup_id: BackupId, outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, ContinuumError):
        return {"backup_id": backup_id, "passed": False, "error": emit.error_fields(outcome)}
    return verdict_fields(outcome.attestation)


def _row(backup_id: BackupId, outcome: Outcome) -> list[str]:
    if isinstance(outcome, ContinuumError):
        return [backup_id, "", "failed", "", type(outcome).__name__]
    verdict = outcome.attestation
    n_rows = sum(rows for _, rows in verdict.row_counts)
    found = [*verdict.findings, *([f"{len(verdict.row_counts)} tables, {n_rows} rows"] if verdict.row_counts else [])]
    return [backup_id, str(verdict.level), "passed", emit.duration(verdict.duration_seconds), "; ".join(found)]
