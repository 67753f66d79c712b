"""continuum backup compare-counts."""

from __future__ import annotations

from pathlib import Path

import click

from continuum_tasks.cli.frame import dispatch, output, parameters
from continuum_tasks.cli.frame.context import asked, opened, shared
from continuum_tasks.cli.frame.table import Column, table
from continuum_tasks.cli.select import backups
from continuum_tasks.model import BackupId
from continuum_tasks.restore import compare_counts as counts

DIFFERENT = 1


@click.command("compare-counts")
@click.argument("backup_id", metavar="ID", type=parameters.backup_id)
@click.argument("database", metavar="database", type=parameters.file)
@parameters.name_option("--storage", "Take the backup from this storage.")
@shared
def compare_counts(backup_id: BackupId, database: Path, storage: str) -> None:
    """Compare the rows of a backup with those of the database file DATABASE, table by table; exit 1 when they differ.

    A backup that was never test-restored is verified first.
    """
    with opened() as runtime:
        backup = backups.locate(runtime, backup_id, storage=storage)
        repository = runtime.repository(backup.storage)
        action = counts.run(backup.id, database, repository=repository, site=runtime.site, fan=runtime.fan())
        found: tuple[counts.TableCount, ...] = dispatch.run_here(action, title=f"rows of {backup.id}")
    differing = [count for count in found if not count.same]
    if asked().as_json:
        tables = [_fields(count) for count in found]
        output.document({"backup_id": backup.id, "database": str(database), "same": not differing, "tables": tables})
    else:
        _show(differing, n_tables=len(found), n_rows=sum(count.backup or 0 for count in found))
    raise click.exceptions.Exit(DIFFERENT if differing else 0)


def _fields(count: counts.TableCount) -> dict[str, object]:
    return {
        "table": count.table,
        "backup": count.backup,
        "database": count.database,
        "difference": count.difference,
        "same": count.same,
    }


def _show(differing: list[counts.TableCount], *, n_tables: int, n_rows: int) -> None:
    if not differing:
        output.say(f"the same: {n_tables} tables, {n_rows} rows")
        return
    columns = [Column(title="table", folds=True), *(Column(title=t, right=True) for t in ("backup", "database", "difference"))]
    table(columns, [[c.table, _number(c.backup), _number(c.database), f"{c.difference:+}"] for c in differing])
    output.say(f"\n{len(differing)} of {n_tables} tables differ")


def _number(n_rows: int | None) -> str:
    return "no table" if n_rows is None else str(n_rows)
