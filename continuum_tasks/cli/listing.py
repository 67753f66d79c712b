"""continuum backup list, continuum backup info."""

from __future__ import annotations

from collections.abc import Sequence

import click

from continuum_tasks.cli import emit, params, shelf
from continuum_tasks.cli.asked import asked, opened, shared
from continuum_tasks.cli.fields import backup_facts, backup_fields, verdict_fields, verified_word
from continuum_tasks.cli.table import Column, facts, table
from continuum_tasks.errors import BackupNotFound, UsageError
from continuum_tasks.model import Attestation, Backup, BackupId
from continuum_tasks.plan import chain


@click.command("list")
@click.option("--verified-only", is_flag=True, help="Only backups whose test restore passed and that nothing failed since.")
@params.name_option("--database", "Only backups of this database.")
@params.name_option("--storage", "Read this storage's manifests, not the catalog.")
@click.option("--limit", type=click.IntRange(min=1), default=None, help="At most so many, the newest.")
@shared
def list_backups(verified_only: bool, database: str, storage: str, limit: int | None) -> None:
    """List backups, newest first.

    The catalog answers; a storage it never saw, as after metadata.db was lost, is read first. Damaged manifests are named as
    warnings. A storage that cannot be read ends the command with its error, after what the others have was listed.
    """
    with opened() as runtime:
        found = shelf.look(runtime, storage=storage)
        declared = {settings.name for settings in runtime.config.databases}
    known = declared | {backup.database for backup in found.backups}
    if database and database not in known:
        raise UsageError(f"database {database!r}: neither declared nor backed up", hint=f"known: {', '.join(sorted(known))}")
    chosen = [
        backup for backup in found.backups if database in ("", backup.database) and (backup.verified or not verified_only)
    ][:limit]
    if asked().as_json:
        if not found.unread:
            emit.document([backup_fields(backup) for backup in chosen])
    else:
        _show(chosen)
    if found.unread:
        raise found.unread[0]


@click.command("info")
@click.argument("backup_id", metavar="ID", type=params.backup_id)
@params.name_option("--storage", "Read this storage, not the catalog.")
@shared
def info(backup_id: BackupId, storage: str) -> None:
    """Show one backup, the chain it needs and every verdict about it."""
    with opened() as runtime:
        found = shelf.look(runtime, storage=storage)
        backup = shelf.find(runtime, found, backup_id, storage=storage)
        verdicts = shelf.verdicts(runtime, backup, stored=bool(storage))
    beside = found.backups
    same = [b for b in beside if (b.storage, b.database) == (backup.storage, backup.database)]
    links, problem = _links(backup, same)
    usable = backup.id in {b.id for b in chain.usable(same)}
    if asked().as_json:
        fields = {"usable": usable, "chain": [b.id for b in links], "attestations": [verdict_fields(v) for v in verdicts]}
        emit.document({**backup_fields(backup), **fields})
        return
    facts([*backup_facts(backup), ("usable", "yes" if usable else "no"), ("chain", problem or " > ".join(b.id for b in links))])
    _show_verdicts(verdicts)


def _links(backup: Backup, beside: Sequence[Backup]) -> tuple[tuple[Backup, ...], str]:
    try:
        return chain.links(backup, beside), ""
    except BackupNotFound as err:
        return (), err.message


def _show(backups: Sequence[Backup]) -> None:
    if not backups:
        emit.say("no backups")
        return
    extra = [name for name in ("database", "storage") if len({getattr(backup, name) for backup in backups}) > 1]
    columns = [
        Column(title="backup", folds=True),
        *(Column(title=name) for name in extra),
        Column(title="created (utc)"),
        Column(title="status"),
        Column(title="verified"),
        Column(title="size", right=True),
        Column(title="stored", right=True),
    ]
    table(columns, [_row(backup, extra) for backup in backups])


def _row(backup: Backup, extra: Sequence[str]) -> list[str]:
    return [
        backup.id,
        *(getattr(backup, name) for name in extra),
        emit.moment(backup.created_at),
        str(backup.status),
        verified_word(backup),
        emit.size(backup.original_size_bytes),
        emit.size(backup.stored_size_bytes),
    ]


def _show_verdicts(verdicts: Sequence[Attestation]) -> None:
    if not verdicts:
        emit.say("\nno verdicts: `continuum backup verify` makes one")
        return
    columns = [
        *(Column(title=name) for name in ("level", "verdict", "at (utc)", "took", "host")),
        Column(title="found", folds=True),
    ]
    emit.say("")
    table(
        columns,
        [
            [
                str(verdict.level),
                "passed" if verdict.passed else "failed",
                emit.moment(verdict.at),
                emit.duration(verdict.duration_seconds),
                verdict.host,
                "; ".join(verdict.findings),
            ]
            for verdict in verdicts
        ],
    )
