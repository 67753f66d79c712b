"""continuum backup capture status, stop, prove, run."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime

import click

from continuum_tasks.actions import captures, continuous, proof
from continuum_tasks.actions.audited import user
from continuum_tasks.actions.captures import Captured
from continuum_tasks.capture.place import EPOCH_MICROSECONDS, microseconds
from continuum_tasks.capture.status import State, Status
from continuum_tasks.cli import emit, params, work
from continuum_tasks.cli.asked import asked, config, config_directory, opened, shared
from continuum_tasks.cli.commands import LazyGroup
from continuum_tasks.cli.table import Column, facts, table
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import IntegrityError

TROUBLE = 1
POLL_SECONDS = 0.2
_RIGHT = ("commit", "behind", "lag", "wal", "spool", "pins", "holes", "watched")
_COLUMNS = (Column(title="database", folds=True), Column(title="state"), *(Column(title=title, right=True) for title in _RIGHT))


@click.group("capture", cls=LazyGroup, table={})
@shared
def capture() -> None:
    """Show, stop, prove and run the capture of every commit; `create --strategy continuous` starts it for a database.

    \b
    Example:
      continuum backup capture status
    """


@capture.command("status")
@click.argument("databases", metavar="[DATABASE]...", type=params.name, nargs=-1, shell_complete=params.complete_database)
@shared
def status(databases: tuple[str, ...]) -> int:
    """Show how the capture of databases stands: lag, size of the -wal, what waits to be shipped, pins and holes.

    Exit code 1 when a database that is to be captured is not, or something about it is wrong.

    \b
    Example:
      continuum backup capture status memory
    """
    now_us = microseconds(datetime.now(UTC))
    found = captures.look(config(), databases, now_us=now_us)
    if asked().as_json:
        emit.document([fields(one) for one in found])
    elif len(found) == 1:
        facts(_facts(found[0]))
    else:
        _table(found)
        _limit(captures.carried(config()))
    for one in found:
        for trouble in one.troubles:
            emit.warn(f"database {one.database}: {trouble}")
    if not found:
        emit.remark("no database is captured: `continuum backup create --strategy continuous` starts it")
    return TROUBLE if any(one.troubles for one in found) else 0


@capture.command("stop")
@params.name_option("--database", "A database of backup.conf [default: its default one].")
@click.option("--wait/--no-wait", default=True, help="Wait until nothing of it is held any more [default: --wait].")
@shared
def stop(database: str, wait: bool) -> None:
    """Stop capturing a database: `continuous = no` in backup.conf. Its commits are then in backups only, as these are made.

    \b
    Example:
      continuum backup capture stop --database memory
    """
    with opened() as runtime:
        found = runtime.config.database(database)
        changed = continuous.switch_off(switch(found), site=runtime.site)
        for text in changed.warnings:
            emit.warn(text)
        waiting = continuous.await_stop(found.name, patience(), site=runtime.site)
        last = work.run_here(waiting, title=f"capture of {found.name}") if wait else None
        (one,) = captures.look(config(), [found.name], now_us=microseconds(runtime.site.clock.now()))
    if asked().as_json:
        emit.document({**fields(one), "changed": changed.written})
        return
    emit.say(f"database {found.name}: its commits are {'no longer captured' if changed.written else 'not captured, as before'}")
    if last is not None and last.commit:
        emit.say(f"the last one captured is {last.commit} on {last.timeline}, seen {_moment(last.observed_us)} UTC")
    if last is not None and last.spool_segments:
        emit.warn(f"{last.spool_segments} segments with {emit.size(last.spool_bytes)} wait here until it is captured again")


@capture.command("prove")
@params.name_option("--database", "A database of backup.conf [default: its default one].")
@shared
def prove(database: str) -> int:
    """Compare the state that capture has read from a database with its backups and captured commits.

    Capture runs this by itself (`proof_every` in backup.conf). Exit code 7 when they differ: backups made of what was captured
    since the last proof are then not usable any more.

    \b
    Example:
      continuum backup capture prove --database memory
    """
    with opened() as runtime:
        found = runtime.config.database(database)
        repository = runtime.repository(found.storage)
        proven = work.run_here(proof.run(found, repository=repository, site=runtime.site), title=f"proof of {found.name}")
    state, same = proven.state, not proven.differing
    if asked().as_json:
        failed = [backup.id for backup in proven.failed]
        said = {"timeline": state.timeline, "commit": state.commit, "pages": state.n_pages, "differing": proven.differing}
        emit.document({**said, "same": same, "failed": failed})
    elif same:
        emit.say(f"database {found.name}: its {state.n_pages:,} pages at commit {state.commit} are what was captured")
    for line in proof.describe(proven):
        emit.warn(f"database {found.name}: {line}")
    return 0 if same else IntegrityError.exit_code


@capture.command("run")
@shared
def run() -> None:
    """Capture in the foreground until Ctrl-C, where no `continuum up` runs. One process captures on a host.

    \b
    Example:
      continuum backup capture run --config-dir /etc/continuum
    """
    directory = config().directory
    environment = {**os.environ, "CONTINUUM_CONFIG_DIR": str(directory)}
    sys.stdout.flush()
    # -P: a `workers` package in the directory this is started from is not ours.
    os.execve(sys.executable, [sys.executable, "-P", "-m", "workers.capture"], environment)  # noqa: S606


def switch(database: DatabaseConfig) -> continuous.Switch:
    """Return whose capture is to be switched, as this command was asked to."""
    return continuous.Switch(database=database, directory=config_directory(), environment=os.environ, by=user())


def patience() -> continuous.Wait:
    """Return how a command waits."""
    return continuous.Wait(pause=lambda: time.sleep(POLL_SECONDS))


def fields(one: Captured) -> dict[str, object]:
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
        "state": State.STOPPED.value if status is None else status.state.value,
        "troubles": list(one.troubles),
        "rpo_seconds": one.rpo_seconds,
        **{name: None if status is None else getattr(status, name) for name in plain},
        **{name: None if status is None else _iso(getattr(status, target)) for name, target in times.items()},
    }


def lines(status: Status) -> list[tuple[str, str]]:
    """Return what people want to know of a capture, as names and values."""
    behind = "" if not status.base_after else f" (restores begin at {status.base_after}, once a backup stands behind it)"
    return [
        ("timeline", status.timeline),
        ("commit", f"{status.commit}, seen {_moment(status.observed_us)} UTC{behind}" if status.commit else "none yet"),
        ("durable", f"{status.durable_commit} in {status.storage}"),
        ("lag", f"{_lag(status)} (half and 95 % of the last commits, until in the storage)"),
    ]


def _facts(one: Captured) -> list[tuple[str, str]]:
    status = one.status
    head = [("database", one.database), ("wanted", "yes" if one.wanted else "no")]
    if status is None:
        return [*head, ("state", "stopped: it never ran here")]
    return [
        *head,
        ("state", f"{status.state}: {status.detail}" if status.detail else status.state.value),
        *lines(status),
        ("watched until", f"{_moment(status.watched_until_us)} UTC" if status.watched_until_us else "never"),
        ("-wal", f"{emit.size(status.wal_bytes)}{', alarm' if status.wal_alarm else ''}"),
        ("spool", f"{status.spool_segments} segments, {emit.size(status.spool_bytes)}"),
        ("shipped", f"{emit.size(status.shipped_bytes)} in {status.n_requests} requests since its process began"),
        ("pins", str(status.n_pins)),
        ("holes", str(status.n_holes)),
    ]


def _table(found: tuple[Captured, ...]) -> None:
    if found:
        table(_COLUMNS, [_row(one) for one in found])
        emit.say("behind: commits not in the storage yet; lag: of half and 95 % of the last; watched: until then (UTC)")


def _limit(n_databases: int) -> None:
    if n_databases:
        emit.say(f"limit: the open files allowed (LimitNOFILE) carry {n_databases} captured databases")


def _row(one: Captured) -> list[str]:
    status = one.status
    if status is None:
        return [one.database, State.STOPPED.value, *[""] * len(_RIGHT)]
    return [
        one.database,
        status.state.value,
        str(status.commit),
        str(max(0, status.commit - status.durable_commit)),
        _lag(status),
        f"{emit.size(status.wal_bytes)}{' !' if status.wal_alarm else ''}",
        emit.size(status.spool_bytes),
        str(status.n_pins),
        str(status.n_holes),
        _moment(status.watched_until_us)[11:] if status.watched_until_us else "never",
    ]


def _lag(status: Status) -> str:
    return f"{status.lag_p50_seconds:.1f}/{status.lag_p95_seconds:.1f} s"


def _at(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / EPOCH_MICROSECONDS, UTC)


def _moment(microseconds: int) -> str:
    return emit.moment(_at(microseconds))


def _iso(microseconds: int) -> str | None:
    return _at(microseconds).isoformat() if microseconds else None
