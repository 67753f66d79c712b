"""continuum backup accept."""

from __future__ import annotations

import click

from continuum_tasks.backup.accept import accept_backup
from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import backup_fields, print_facts
from continuum_tasks.host.audit_trail import user
from continuum_tasks.model import BackupId
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.find_backup import index_unseen

MAX_REASON = 500


def _reason(text: str) -> str:
    found = " ".join(text.split())
    if not found or len(found) > MAX_REASON:
        raise click.BadParameter(f"say in 1 to {MAX_REASON} characters why the backup is good")
    return found


@click.command("accept")
@click.argument("backup_id", metavar="ID", type=parameters.backup_id)
@click.option(
    "--reason", type=_reason, required=True, metavar="TEXT", help="The reason; stored with the backup and in the audit log."
)
@parameters.name_option("--storage", "Where it is [default: as the catalog says].")
@shared_options
def accept(backup_id: BackupId, reason: str, storage: str) -> None:
    """Accept a backup with anomalies as good: it counts as completed from now on.

    Examine the database first. `continuum backup accept backup-full-20251206-010000 --reason "old messages were archived"`
    """
    with open_runtime_of_command() as runtime:
        for name in [storage] if storage else [settings.name for settings in runtime.config.storages]:
            output.print_remarks(index_unseen(runtime, runtime.config.storage(name).name))
        found = runtime.catalog.find(backup_id, storage=storage or None)
        repository = runtime.repository(found.storage)
        done = accept_backup(backup_id, reason, by=user(), repository=repository, site=runtime.site)
    if cli_context().as_json:
        output.print_document(
            {
                **backup_fields(done.backup),
                "acceptance": to_json(done.acceptance),
                "released": [str(one) for one in done.released],
            }
        )
        return
    print_facts(
        [
            ("backup", done.backup.id),
            ("status", f"{done.backup.status}, accepted by {done.acceptance.by}"),
            ("reason", done.acceptance.reason),
            *(("released", f"{one}, held by the anomaly watch") for one in done.released),
        ]
    )
