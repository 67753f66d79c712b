"""continuum backup verify, continuum backup verify-all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import click

from continuum_tasks.cli.frame import dispatch, enqueue, output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.parameters import time_option
from continuum_tasks.cli.frame.table import TableColumn, print_table, verdict_fields
from continuum_tasks.errors import BackupNotFound, ContinuumError, UsageError
from continuum_tasks.host.job_kinds import VerifyBackup
from continuum_tasks.model import BackupId, BackupStatus, Level
from continuum_tasks.restore.find_backup import locate, look_up
from continuum_tasks.runtime import Runtime
from continuum_tasks.verify.plan.sampling import PER_CHAIN, VerifyStep, steps
from continuum_tasks.verify.verify import Verified

_LEVELS = [level.value for level in Level]
_LEVEL_HELP = (
    "objects: stored bytes, no key needed; pages: every page opened; restore: a test restore that SQLite checks"
    " [default: restore]."
)
_PER_CHAIN_HELP = f"Restore this many of each chain, evenly spread; read every stored byte of the rest [default: {PER_CHAIN}]."


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOutcome:
    """How one verification ended: with a verdict, or the error that it raised. `covers` as in `VerifyStep`."""

    backup_id: BackupId
    covers: tuple[BackupId, ...]
    end: Verified | ContinuumError


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Which backups of a period to verify; empty names mean all."""

    since: datetime
    database: str
    storage: str
    per_chain: int


@click.command("verify")
@click.argument("backup_ids", metavar="[ID]...", type=parameters.backup_id, nargs=-1)
@time_option("--since", "Instead of IDs: the backups made since then, as `verify-all` does.")
@click.option("--level", type=click.Choice(_LEVELS), default=Level.RESTORE.value, help=_LEVEL_HELP)
@parameters.name_option("--storage", "Verify what this storage holds.")
@dispatch.local_option
@shared_options
def verify(backup_ids: tuple[BackupId, ...], since: datetime | None, level: str, storage: str, local: bool | None) -> None:
    """Prove backups from the storage alone and store the verdicts beside them.

    Only a passed `restore` level makes a backup verified. All are tried; the first failure decides the exit code.

    \b
    Example:
      continuum backup verify --since 30d
    """
    if bool(backup_ids) == (since is not None):
        raise UsageError("name backups by ID, or else a time with --since", hint="`continuum backup list` shows the ids")
    how = dispatch.execution_mode(local)
    with open_runtime_of_command() as runtime:
        if since is not None:
            wanted = Range(since=since, database="", storage=storage, per_chain=PER_CHAIN)
            outcomes = _all(runtime, wanted, Level(level), how=how)
        else:
            outcomes = [_named(runtime, backup_id, Level(level), storage=storage, how=how) for backup_id in backup_ids]
    _end(outcomes)


@click.command("verify-all")
@time_option("--since", "Only backups made since then [default: all].")
@click.option("--level", type=click.Choice(_LEVELS), default=Level.RESTORE.value, help=_LEVEL_HELP)
@click.option("--per-chain", type=click.IntRange(1, 1_000_000), default=PER_CHAIN, metavar="N", help=_PER_CHAIN_HELP)
@parameters.name_option("--database", "Only backups of this database.")
@parameters.name_option("--storage", "Verify what this storage holds, not what the catalog knows.")
@dispatch.local_option
@shared_options
def verify_all(  # noqa: PLR0913 - one for each word of the command
    since: datetime | None, level: str, per_chain: int, database: str, storage: str, local: bool | None
) -> None:
    """Prove all backups of a period.

    Of each chain a few are restored, always its newest and its first; of the others every stored byte that a restore of them
    would need is read against its SHA-256.

    \b
    Example:
      continuum backup verify-all --since 7d
    """
    how = dispatch.execution_mode(local)
    start = since or datetime.fromisoformat("0001-01-02T00:00:00+00:00")
    with open_runtime_of_command() as runtime:
        wanted = Range(since=start, database=database, storage=storage, per_chain=per_chain)
        outcomes = _all(runtime, wanted, Level(level), how=how)
    _end(outcomes)


def _named(runtime: Runtime, backup_id: BackupId, level: Level, *, storage: str, how: dispatch.ExecutionMode) -> VerifyOutcome:
    try:
        step = VerifyStep(backup=output.print_remarks(locate(runtime, backup_id, storage=storage)))
    except ContinuumError as err:
        output.error(err)
        return VerifyOutcome(backup_id=backup_id, covers=(), end=err)
    return _one(runtime, step, level, how=how)


def _all(runtime: Runtime, wanted: Range, level: Level, *, how: dispatch.ExecutionMode) -> list[VerifyOutcome]:
    """Verify the backups of a period. Raises BackupNotFound when there are none, StorageError when one was not asked."""
    found = output.print_remarks(look_up(runtime, storage=wanted.storage))
    there = [b for b in found.backups if b.created_at >= wanted.since and wanted.database in ("", b.database)]
    sound = [b for b in there if b.status is BackupStatus.COMPLETED]
    if len(sound) < len(there):
        output.warn(f"{len(there) - len(sound)} suspect backups are skipped: verify them by their ids")
    if found.unread:
        raise found.unread[0]
    if not sound:
        of = f"database {wanted.database}" if wanted.database else "any database"
        hint = "`continuum backup list` shows what there is"
        raise BackupNotFound(f"no backup of {of} since {output.moment(wanted.since)} UTC to verify", hint=hint)
    per_chain = 1 if level is Level.OBJECTS else wanted.per_chain  # the newest needs the bytes of all the others
    return [_one(runtime, step, level, how=how) for step in steps(sound, per_chain=per_chain)]


def _one(runtime: Runtime, step: VerifyStep, level: Level, *, how: dispatch.ExecutionMode) -> VerifyOutcome:
    try:
        end: Verified | ContinuumError = dispatch.execute(_work(step, level), runtime, how)
    except ContinuumError as err:
        output.error(err)
        end = err
    return VerifyOutcome(backup_id=step.backup.id, covers=step.covers, end=end)


def _work(step: VerifyStep, level: Level) -> enqueue.Subject:
    backup = step.backup
    return enqueue.Subject(
        arguments=VerifyBackup(backup_id=backup.id, storage=backup.storage, level=level, each_link=bool(step.covers)),
        title=f"verify of {backup.id}",
        database=backup.database,
        seen_by=f"`continuum backup info {backup.id}` shows the verdict when it is there",
    )


def _end(outcomes: Sequence[VerifyOutcome]) -> None:
    """Show what was found and leave with the code of the first failure."""
    if cli_context().as_json:
        output.print_document([_fields(outcome) for outcome in outcomes])
    else:
        columns = [TableColumn(title="backup"), *(TableColumn(title=name) for name in ("level", "verdict", "took"))]
        print_table([*columns, TableColumn(title="found", folds=True)], [_row(outcome) for outcome in outcomes])
    failures = [outcome.end.exit_code for outcome in outcomes if isinstance(outcome.end, ContinuumError)]
    raise click.exceptions.Exit(failures[0] if failures else 0)


def _fields(outcome: VerifyOutcome) -> dict[str, object]:
    covers = {"covers": list(outcome.covers)}
    if isinstance(outcome.end, ContinuumError):
        return {"backup_id": outcome.backup_id, "passed": False, "error": output.error_fields(outcome.end), **covers}
    return {**verdict_fields(outcome.end.attestation), **covers}


def _row(outcome: VerifyOutcome) -> list[str]:
    if isinstance(outcome.end, ContinuumError):
        return [outcome.backup_id, "", "failed", "", type(outcome.end).__name__]
    verdict = outcome.end.attestation
    n_rows = sum(rows for _, rows in verdict.row_counts)
    found = [*verdict.findings, *([f"{len(verdict.row_counts)} tables, {n_rows} rows"] if verdict.row_counts else [])]
    found += [f"all bytes of {len(outcome.covers)} more"] if outcome.covers else []
    return [outcome.backup_id, str(verdict.level), "passed", output.duration(verdict.duration_seconds), "; ".join(found)]
