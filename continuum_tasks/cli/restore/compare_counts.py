"""continuum backup compare-counts."""

from __future__ import annotations

from pathlib import Path

import click

from continuum_tasks.cli.frame import dispatch, output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.model import BackupId
from continuum_tasks.restore.compare_counts import TableCount, compare_counts_of
from continuum_tasks.restore.find_backup import locate

DIFFERENT = 1


@click.command("compare-counts")
@click.argument("backup_id", metavar="ID", type=parameters.backup_id)
@click.argument("database", metavar="database", type=parameters.file)
@parameters.name_option("--storage", "Take the backup from this storage.")
@shared_options
def compare_counts(backup_id: BackupId, database: Path, storage: str) -> None:
    """Compare the rows of a backup with those of the database file DATABASE, table by table; exit 1 when they differ.

    A backup that was never test-restored is verified first.
    """
    with open_runtime_of_command() as runtime:
        backup = output.print_remarks(locate(runtime, backup_id, storage=storage))
        repository = runtime.repository(backup.storage)
        action = compare_counts_of(backup.id, database, repository=repository, site=runtime.site, fan=runtime.fan())
        found: tuple[TableCount, ...] = dispatch.run_locally(action, title=f"rows of {backup.id}")
    differing = [count for count in found if not count.same]
    if cli_context().as_json:
        tables = [_fields(count) for count in found]
        output.print_document({"backup_id": backup.id, "database": str(database), "same": not differing, "tables": tables})
    else:
        _show(differing, n_tables=len(found), n_rows=sum(count.backup or 0 for count in found))
    raise click.exceptions.Exit(DIFFERENT if differing else 0)


def _fields(count: TableCount) -> dict[str, object]:
    return {
        "table": count.table,
        "backup": count.backup,
        "database": count.database,
        "difference": count.difference,
        "same": count.same,
    }


def _show(differing: list[TableCount], *, n_tables: int, n_rows: int) -> None:
    if not differing:
        output.print_text(f"the same: {n_tables} tables, {n_rows} rows")
        return
    columns = [
        TableColumn(title="table", folds=True),
        *(TableColumn(title=t, right=True) for t in ("backup", "database", "difference")),
    ]
    print_table(columns, [[c.table, _number(c.backup), _number(c.database), f"{c.difference:+}"] for c in differing])
    output.print_text(f"\n{len(differing)} of {n_tables} tables differ")


def _number(n_rows: int | None) -> str:
    return "no table" if n_rows is None else str(n_rows)
