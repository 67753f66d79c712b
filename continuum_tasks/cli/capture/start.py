"""continuum backup create --strategy continuous: have every commit captured from now on."""

from __future__ import annotations

import sys

import click

from continuum_tasks.capture import overview, switch
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_heartbeat
from continuum_tasks.capture.switch import enable_wal_mode, is_enabled
from continuum_tasks.cli.capture import capture
from continuum_tasks.cli.frame import dispatch, output, parameters
from continuum_tasks.cli.frame.context import cli_context, configuration, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import print_facts
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import UsageError
from continuum_tasks.host.audit_trail import user
from continuum_tasks.units import microseconds


def start(database: str, *, wait: bool) -> None:
    """Switch the capture of a database on and, if asked to, wait until it is captured.

    Raises SourceError, ConfigError, NoWorker, JobFailed.
    """
    with open_runtime_of_command() as runtime:
        found, site = runtime.config.database(database), runtime.site
        done = switch.switch_on(capture.switch(found), site=site)
        for text in done.changed.warnings:
            output.warn(text)
        if done.fence:
            output.remark(f"database {found.name}: {done.fence}; it begins a new timeline of its own here")
        if not done.source.wal:
            output.remark(_journal(found))
        if wait:
            waiting = switch.await_capture(found.name, capture.lock_wait(), site=site)
            _show(
                found,
                dispatch.run_locally(waiting, title=f"capture of {found.name}"),
                done,
                now_us=microseconds(site.clock.now()),
            )
            return
        silent = overview.silence(read_heartbeat(site.state_dir), now_us=microseconds(site.clock.now()))
    if silent:
        output.warn(f"{silent}: {switch.REMEDY}")
    if cli_context().as_json:
        output.print_document({"database": found.name, "changed": done.changed.written, "fence": done.fence or None})
    else:
        output.print_text(f"database {found.name}: switched on{'' if done.changed.written else ' already'}")


def _show(database: DatabaseConfig, status: CaptureStatus, done: switch.SwitchedOn, *, now_us: int) -> None:
    if cli_context().as_json:
        (one,) = overview.capture_overview(configuration(), [database.name], now_us=now_us)
        output.print_document({**capture.capture_fields(one), "changed": done.changed.written, "fence": done.fence or None})
    elif status.state is CaptureState.JOURNAL:
        print_facts([("database", database.name), ("state", f"{status.state}: {status.detail}")])
    else:
        print_facts(
            [("database", database.name), ("state", "running: every commit is captured"), *capture.capture_facts(status)]
        )


def _journal(database: DatabaseConfig) -> str:
    return (
        f"database {database.name} is in rollback-journal mode: a backup of its changed pages is made when it changes,"
        f" at most one in 15 s; `continuum backup enable-wal {database.name}` switches it, and every commit is captured"
    )


@click.command("enable-wal")
@click.argument("database", metavar="DATABASE-NAME", type=parameters.declared_name, shell_complete=parameters.complete_database)
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared_options
def enable_wal(database: str, yes: bool) -> None:
    """Switch a database of backup.conf from rollback-journal to WAL mode, so that every commit of it can be captured.

    It is a property of the file and stays until somebody changes it back. Writers then no longer wait for readers.
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
        "- it stays in WAL mode, for all programs, until somebody changes it back",
    ):
        output.remark(line)
    nobody = UsageError("enable-wal asks for confirmation, and there was no answer", hint="give --yes")
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
