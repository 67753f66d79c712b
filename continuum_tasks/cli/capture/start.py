"""continuum backup create --strategy continuous: have every commit captured from now on."""

from __future__ import annotations

from continuum_tasks.capture import overview, switch
from continuum_tasks.capture.state.environment import microseconds
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_heartbeat
from continuum_tasks.cli.capture import capture
from continuum_tasks.cli.frame import dispatch, output
from continuum_tasks.cli.frame.context import cli_context, configuration, open_runtime_of_command
from continuum_tasks.cli.frame.table import print_facts
from continuum_tasks.config import DatabaseConfig


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
