"""continuum backup hold, continuum backup release."""

from __future__ import annotations

import click

from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.errors import UsageError
from continuum_tasks.host.audit_trail import user
from continuum_tasks.model import BackupId
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.find_backup import locate
from continuum_tasks.retention.hold import hold_backup, release_backup

MAX_REASON = 500


@click.command("hold")
@click.argument("backup_id", metavar="ID", type=parameters.backup_id)
@click.option("--reason", metavar="TEXT", required=True, help="Why; shown by apply-retention.")
@parameters.name_option("--storage", "Hold it in this storage.")
@shared_options
def hold(backup_id: BackupId, reason: str, storage: str) -> None:
    """Keep a backup, and all it needs, until it is released, whatever the policy says.

    \b
    Example: continuum backup hold backup-full-20251206-010000 --reason "incident 4711"
    """
    text = " ".join(reason.split())
    if not text or len(text) > MAX_REASON or not text.isprintable():
        raise UsageError("--reason is empty, too long or not printable", hint=f"1 to {MAX_REASON} characters that print")
    with open_runtime_of_command() as runtime:
        backup = output.print_remarks(locate(runtime, backup_id, storage=storage))
        repository = runtime.repository(backup.storage)
        made = hold_backup(backup, text, by=user(), repository=repository, site=runtime.site)
    if cli_context().as_json:
        output.print_document({**to_json(made), "database": backup.database, "storage": backup.storage, "held": True})
    else:
        output.print_text(f"{backup.id} in {backup.storage}: held: {text}")


@click.command("release")
@click.argument("backup_id", metavar="ID", type=parameters.backup_id)
@parameters.name_option("--storage", "Release it in this storage.")
@shared_options
def release(backup_id: BackupId, storage: str) -> None:
    """Let retention expire a held backup again. Releasing one that is not held changes nothing.

    \b
    Example: continuum backup release backup-full-20251206-010000
    """
    with open_runtime_of_command() as runtime:
        backup = output.print_remarks(locate(runtime, backup_id, storage=storage))
        was = release_backup(backup, by=user(), repository=runtime.repository(backup.storage), site=runtime.site)
    if cli_context().as_json:
        known = {"backup_id": backup.id, "database": backup.database, "storage": backup.storage}
        output.print_document(
            {**known, "held": False, "was_held": was is not None, "reason": None if was is None else was.reason}
        )
    elif was is None:
        output.print_text(f"{backup.id} in {backup.storage}: was not held")
    else:
        output.print_text(f"{backup.id} in {backup.storage}: released; it was held by {was.by}: {was.reason}")
