"""continuum backup list, continuum backup info."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.parameters import time_option
from continuum_tasks.cli.frame.table import (
    TableColumn,
    backup_facts,
    backup_fields,
    print_facts,
    print_table,
    verdict_fields,
    verified_word,
)
from continuum_tasks.cli.select import jobs
from continuum_tasks.cli.select.backups import picked, verdicts
from continuum_tasks.cli.select.jobs import Filter
from continuum_tasks.errors import BackupNotFound, UsageError
from continuum_tasks.history import chain
from continuum_tasks.model import Attestation, Backup, BackupId, BackupStatus, Strategy
from continuum_tasks.restore.find_backup import find_backup, look_up

STATUSES = [BackupStatus.COMPLETED.value, *jobs.STATUSES, BackupStatus.SUSPECT.value]


@click.command("list")
@click.option("--verified-only", is_flag=True, help="Only backups whose test restore passed and that nothing failed since.")
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    default=None,
    help="completed (verified or not) or suspect backups; failed or running ones of this host's jobs.",
)
@time_option("--since", "Only what was made, or failed, since then.")
@time_option("--before", "Only what was made before then.")
@click.option("--strategy", type=click.Choice([s.value for s in Strategy]), default=None, help="Only of this strategy.")
@parameters.name_option("--database", "Only backups of this database.")
@parameters.name_option("--storage", "Read this storage's manifests, not the catalog.")
@click.option("--limit", type=click.IntRange(min=1), default=None, metavar="N", help="At most this many, the newest.")
@click.option(
    "--random",
    "n_random",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="This many at random, those never drilled first; as a table only ids, one per line.",
)
@shared_options
def list_backups(**words: Any) -> None:
    """List backups, newest first.

    The catalog answers; a storage it never saw, as after metadata.db was lost, is read first. Damaged manifests are named as
    warnings. A storage that cannot be read ends the command with its error, after what the others have was listed.

    \b
    Example:
      continuum backup restore $(continuum backup list --verified-only --random 1) --target /tmp/dr-drill.db
    """
    wanted = Filter(**words)
    if wanted.status in jobs.STATUSES:
        with open_runtime_of_command() as runtime:
            jobs.show_attempts(jobs.find_attempts(runtime, wanted))
        return
    with open_runtime_of_command() as runtime:
        found = output.print_remarks(look_up(runtime, storage=wanted.storage))
        declared = {settings.name for settings in runtime.config.databases}
        _check_database(wanted.database, declared | {backup.database for backup in found.backups})
        chosen = [backup for backup in found.backups if _fits(backup, wanted)][: wanted.limit]
        if wanted.n_random is not None:
            chosen = picked(runtime, chosen, n=wanted.n_random, storage=wanted.storage)
    if cli_context().as_json:
        if not found.unread:
            output.print_document([backup_fields(backup) for backup in chosen])
    elif wanted.n_random is not None:
        for backup in chosen:
            output.print_text(backup.id)
    else:
        _show(chosen)
    if found.unread:
        raise found.unread[0]


def _check_database(name: str, known: set[str]) -> None:
    if name and name not in known:
        raise UsageError(f"database {name!r}: neither declared nor backed up", hint=f"known: {', '.join(sorted(known))}")


def _fits(backup: Backup, wanted: Filter) -> bool:
    return (
        wanted.database in ("", backup.database)
        and wanted.strategy in (None, backup.strategy.value)
        and wanted.status in (None, backup.status.value)
        and (backup.verified or not wanted.verified_only)
        and (wanted.since is None or backup.created_at >= wanted.since)
        and (wanted.before is None or backup.created_at < wanted.before)
    )


@click.command("info")
@click.argument("backup_id", metavar="ID", type=parameters.backup_id)
@parameters.name_option("--storage", "Read this storage, not the catalog.")
@shared_options
def info(backup_id: BackupId, storage: str) -> None:
    """Show one backup, the chain it needs and every verdict about it."""
    with open_runtime_of_command() as runtime:
        found = output.print_remarks(look_up(runtime, storage=storage))
        backup = find_backup(runtime, found, backup_id, storage=storage)
        given = verdicts(runtime, backup, stored=bool(storage))
    beside = found.backups
    same = [b for b in beside if (b.storage, b.database) == (backup.storage, backup.database)]
    links, problem = _links(backup, same)
    usable = backup.id in {b.id for b in chain.usable(same)}
    if cli_context().as_json:
        fields = {"usable": usable, "chain": [b.id for b in links], "attestations": [verdict_fields(v) for v in given]}
        output.print_document({**backup_fields(backup), **fields})
        return
    print_facts(
        [*backup_facts(backup), ("usable", "yes" if usable else "no"), ("chain", problem or " > ".join(b.id for b in links))]
    )
    _show_verdicts(given)


def _links(backup: Backup, beside: Sequence[Backup]) -> tuple[tuple[Backup, ...], str]:
    try:
        return chain.links(backup, beside), ""
    except BackupNotFound as err:
        return (), err.message


def _show(backups: Sequence[Backup]) -> None:
    if not backups:
        output.print_text("no backups")
        return
    extra = [name for name in ("database", "storage") if len({getattr(backup, name) for backup in backups}) > 1]
    columns = [
        TableColumn(title="backup"),
        *(TableColumn(title=name) for name in extra),
        TableColumn(title="created (utc)"),
        TableColumn(title="status"),
        TableColumn(title="verified"),
        TableColumn(title="size", right=True),
        TableColumn(title="stored", right=True),
    ]
    print_table(columns, [_row(backup, extra) for backup in backups])


def _row(backup: Backup, extra: Sequence[str]) -> list[str]:
    return [
        backup.id,
        *(getattr(backup, name) for name in extra),
        output.moment(backup.created_at),
        str(backup.status),
        verified_word(backup),
        output.size(backup.original_size_bytes),
        output.size(backup.stored_size_bytes),
    ]


def _show_verdicts(verdicts: Sequence[Attestation]) -> None:
    if not verdicts:
        output.print_text("\nno verdicts: `continuum backup verify` makes one")
        return
    columns = [
        *(TableColumn(title=name) for name in ("level", "verdict", "at (utc)", "took", "host")),
        TableColumn(title="found", folds=True),
    ]
    output.print_text("")
    print_table(
        columns,
        [
            [
                str(verdict.level),
                "passed" if verdict.passed else "failed",
                output.moment(verdict.at),
                output.duration(verdict.duration_seconds),
                verdict.host,
                "; ".join(verdict.findings),
            ]
            for verdict in verdicts
        ],
    )
