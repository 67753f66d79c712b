"""continuum backup enable-wal."""

from __future__ import annotations

import sys

import click

from continuum_tasks.capture.enable_wal import enable_wal_mode, is_enabled
from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import UsageError
from continuum_tasks.host.audit_trail import user


@click.command("enable-wal")
@click.argument("database", metavar="DATABASE-NAME", type=parameters.declared_name, shell_complete=parameters.complete_database)
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared_options
def enable_wal(database: str, yes: bool) -> None:
    """Switch a database of backup.conf from rollback-journal to WAL mode, so that every commit of it can be captured.

    It is a property of the file and stays until somebody takes it back. Writers then no longer wait for readers.
    """
    with open_runtime_of_command() as runtime:
        found = runtime.config.database(database)
        changed = not is_enabled(found)
        if changed:
            _agree(found, yes=yes)
            changed = enable_wal_mode(found, by=user(), site=runtime.site)
    if cli_context().as_json:
        output.print_document({"database": found.name, "path": str(found.path), "journal_mode": "wal", "changed": changed})
        return
    output.print_text(f"database {found.name}: {'in WAL mode now' if changed else 'in WAL mode already; nothing was changed'}")
    if changed:
        output.remark(
            f"to go back: `continuum backup capture stop --database {found.name}`, end every process that has it open,"
        )
        output.remark(f"then: sqlite3 {found.path} 'PRAGMA journal_mode = delete'")


def _agree(database: DatabaseConfig, *, yes: bool) -> None:
    if yes:
        return
    for line in (
        f"{database.path} is in rollback-journal mode. In WAL mode",
        "- commits go to a file beside it (-wal) first: a copy of the database file alone then lacks the newest ones",
        "- every process that reads it must run on this host, and be allowed to write in its directory",
        "- it stays so, for all programs, until somebody takes it back",
    ):
        output.remark(line)
    nobody = UsageError("enable-wal asks and nobody answered", hint="give --yes")
    if sys.stdin is None:
        raise nobody
    try:
        click.confirm("Switch it?", default=False, abort=True, err=True)
    except OSError as err:  # standard input is nothing that can be read
        raise nobody from err
    except click.Abort as err:
        if isinstance(err.__context__, EOFError):
            raise nobody from err
        raise
