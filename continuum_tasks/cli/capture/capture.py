"""continuum backup capture status, stop, prove, run."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import click

from continuum_tasks.capture import compare_live, overview
from continuum_tasks.capture.overview import CaptureOverview
from continuum_tasks.capture.state.environment import EPOCH_MICROSECONDS
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus
from continuum_tasks.capture.switch import Switch, Wait, await_stop, switch_off
from continuum_tasks.cli.frame import dispatch, output, parameters
from continuum_tasks.cli.frame.context import (
    cli_context,
    config_directory,
    configuration,
    open_runtime_of_command,
    shared_options,
)
from continuum_tasks.cli.frame.table import TableColumn, print_facts, print_table
from continuum_tasks.cli.registry import LazyGroup
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import IntegrityError
from continuum_tasks.host.audit_trail import user
from continuum_tasks.launch import become_module
from continuum_tasks.units import microseconds

TROUBLE = 1
POLL_SECONDS = 0.2
_RIGHT = ("commit", "behind", "lag", "wal", "spool", "pins", "holes", "watched")
_COLUMNS = (
    TableColumn(title="database", folds=True),
    TableColumn(title="state"),
    *(TableColumn(title=title, right=True) for title in _RIGHT),
)


@click.group("capture", cls=LazyGroup, table={})
@shared_options
def capture() -> None:
    """Show, stop, prove and run the capture of every commit; `create --strategy continuous` starts it for a database.

    \b
    Example:
      continuum backup capture status
    """


@capture.command("status")
@click.argument(
    "databases", metavar="[DATABASE]...", type=parameters.declared_name, nargs=-1, shell_complete=parameters.complete_database
)
@shared_options
def status(databases: tuple[str, ...]) -> int:
    """Show the state of captures: lag, size of the -wal, what waits to be shipped, pins and holes.

    Exit code 1 when a database that is to be captured is not, or something about it is wrong.

    \b
    Example:
      continuum backup capture status memory
    """
    now_us = microseconds(datetime.now(UTC))
    found = overview.capture_overview(configuration(), databases, now_us=now_us)
    if cli_context().as_json:
        output.print_document([capture_fields(one) for one in found])
    elif len(found) == 1:
        print_facts(_facts(found[0]))
    else:
        _table(found)
        _limit(overview.carried(configuration()))
    for one in found:
        for trouble in one.troubles:
            output.warn(f"database {one.database}: {trouble}")
    if not found:
        output.remark("no database is captured: `continuum backup create --strategy continuous` starts it")
    return TROUBLE if any(one.troubles for one in found) else 0


@capture.command("stop")
@parameters.name_option("--database", "A database of backup.conf [default: its default one].")
@click.option("--wait/--no-wait", default=True, help="Wait until capture has released it [default: --wait].")
@shared_options
def stop(database: str, wait: bool) -> None:
    """Stop capturing a database: `continuous = no` in backup.conf. Its commits are then in backups only, as these are made.

    \b
    Example:
      continuum backup capture stop --database memory
    """
    with open_runtime_of_command() as runtime:
        found = runtime.config.database(database)
        changed = switch_off(switch(found), site=runtime.site)
        for text in changed.warnings:
            output.warn(text)
        waiting = await_stop(found.name, lock_wait(), site=runtime.site)
        last = dispatch.run_locally(waiting, title=f"capture of {found.name}") if wait else None
        (one,) = overview.capture_overview(configuration(), [found.name], now_us=microseconds(runtime.site.clock.now()))
    if cli_context().as_json:
        output.print_document({**capture_fields(one), "changed": changed.written})
        return
    output.print_text(
        f"database {found.name}: its commits are {'no longer captured' if changed.written else 'not captured, as before'}"
    )
    if last is not None and last.commit:
        output.print_text(f"the last one captured is {last.commit} on {last.timeline}, seen {_moment(last.observed_us)} UTC")
    if last is not None and last.spool_segments:
        output.warn(f"{last.spool_segments} segments with {output.size(last.spool_bytes)} wait here until it is captured again")


@capture.command("prove")
@parameters.name_option("--database", "A database of backup.conf [default: its default one].")
@shared_options
def prove(database: str) -> int:
    """Compare the state that capture has read from a database with its backups and captured commits.

    Capture runs this by itself (`proof_every` in backup.conf). Exit code 7 when they differ: backups made of what was captured
    since the last proof are then not usable any more.

    \b
    Example:
      continuum backup capture prove --database memory
    """
    with open_runtime_of_command() as runtime:
        found = runtime.config.database(database)
        repository = runtime.repository(found.storage)
        proven = dispatch.run_locally(
            compare_live.prove_capture(found, repository=repository, site=runtime.site), title=f"proof of {found.name}"
        )
    state, same = proven.state, not proven.differing
    if cli_context().as_json:
        failed = [backup.id for backup in proven.failed]
        said = {"timeline": state.timeline, "commit": state.commit, "pages": state.n_pages, "differing": proven.differing}
        output.print_document({**said, "same": same, "failed": failed})
    elif same:
        output.print_text(f"database {found.name}: its {state.n_pages:,} pages at commit {state.commit} are what was captured")
    for line in compare_live.describe(proven):
        output.warn(f"database {found.name}: {line}")
    return 0 if same else IntegrityError.exit_code


@capture.command("run")
@shared_options
def run_capture() -> None:
    """Capture in the foreground until Ctrl-C, where no `continuum up` runs. One process captures on a host.

    \b
    Example:
      continuum backup capture run --config-dir /etc/continuum
    """
    environment = {**os.environ, "CONTINUUM_CONFIG_DIR": str(configuration().directory)}
    become_module("workers.capture", environment=environment)


def switch(database: DatabaseConfig) -> Switch:
    """Return whose capture is to be switched, as this command was asked to."""
    return Switch(database=database, directory=config_directory(), environment=os.environ, by=user())


def lock_wait() -> Wait:
    """Return how a command waits."""
    return Wait(pause=lambda: time.sleep(POLL_SECONDS))


def capture_fields(one: CaptureOverview) -> dict[str, object]:
    """Return a capture as it stands in JSON output; of one that never ran here everything is null."""
    status = one.status
    plain = (
        *("detail", "trouble", "storage", "timeline", "commit", "durable_commit", "lag_seconds", "lag_p50_seconds"),
        *("lag_p95_seconds", "wal_bytes", "wal_alarm", "spool_bytes", "spool_segments", "n_pins", "n_holes", "base_after"),
        *("shipped_bytes", "n_requests", "source", "settled_monotonic_ns", "worker"),
    )
    times = {
        **{"observed_at": "observed_us", "durable_at": "durable_us"},
        **{"watched_until": "watched_until_us", "updated_at": "updated_us"},
    }
    return {
        "database": one.database,
        "wanted": one.wanted,
        "state": CaptureState.STOPPED.value if status is None else status.state.value,
        "troubles": list(one.troubles),
        "rpo_seconds": one.rpo_seconds,
        **{name: None if status is None else getattr(status, name) for name in plain},
        **{name: None if status is None else _iso(getattr(status, target)) for name, target in times.items()},
    }


def capture_facts(status: CaptureStatus) -> list[tuple[str, str]]:
    """Return what people want to know of a capture, as names and values."""
    behind = "" if not status.base_after else f" (restores begin at {status.base_after}, once it has a backup)"
    return [
        ("timeline", status.timeline),
        ("commit", f"{status.commit}, seen {_moment(status.observed_us)} UTC{behind}" if status.commit else "none yet"),
        ("durable", f"{status.durable_commit} in {status.storage}"),
        ("lag", f"{_lag(status)} (half and 95 % of the last commits, until in the storage)"),
    ]


def _facts(one: CaptureOverview) -> list[tuple[str, str]]:
    status = one.status
    head = [("database", one.database), ("wanted", "yes" if one.wanted else "no")]
    if status is None:
        return [*head, ("state", "stopped: it never ran here")]
    return [
        *head,
        ("state", f"{status.state}: {status.detail}" if status.detail else status.state.value),
        *capture_facts(status),
        ("watched until", f"{_moment(status.watched_until_us)} UTC" if status.watched_until_us else "never"),
        ("-wal", f"{output.size(status.wal_bytes)}{', alarm' if status.wal_alarm else ''}"),
        ("spool", f"{status.spool_segments} segments, {output.size(status.spool_bytes)}"),
        ("shipped", f"{output.size(status.shipped_bytes)} in {status.n_requests} requests since its process began"),
        ("pins", str(status.n_pins)),
        ("holes", str(status.n_holes)),
    ]


def _table(found: tuple[CaptureOverview, ...]) -> None:
    if found:
        print_table(_COLUMNS, [_row(one) for one in found])
        output.print_text(
            "behind: commits not in the storage yet; lag: of half and 95 % of the last; watched: until then (UTC)"
        )


def _limit(n_databases: int) -> None:
    if n_databases:
        output.print_text(f"limit: the open files allowed (LimitNOFILE) carry {n_databases} captured databases")


def _row(one: CaptureOverview) -> list[str]:
    status = one.status
    if status is None:
        return [one.database, CaptureState.STOPPED.value, *[""] * len(_RIGHT)]
    return [
        one.database,
        status.state.value,
        str(status.commit),
        str(max(0, status.commit - status.durable_commit)),
        _lag(status),
        f"{output.size(status.wal_bytes)}{' !' if status.wal_alarm else ''}",
        output.size(status.spool_bytes),
        str(status.n_pins),
        str(status.n_holes),
        _moment(status.watched_until_us)[11:] if status.watched_until_us else "never",
    ]


def _lag(status: CaptureStatus) -> str:
    return f"{status.lag_p50_seconds:.1f}/{status.lag_p95_seconds:.1f} s"


def _at(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / EPOCH_MICROSECONDS, UTC)


def _moment(microseconds: int) -> str:
    return output.moment(_at(microseconds))


def _iso(microseconds: int) -> str | None:
    return _at(microseconds).isoformat() if microseconds else None
