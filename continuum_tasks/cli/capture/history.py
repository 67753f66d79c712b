"""continuum backup history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from continuum_tasks.capture.list_commits import CommitEntry, CommitQuery, list_commits
from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.parameters import time_option
from continuum_tasks.cli.frame.table import TableColumn, commit_fields, print_table
from continuum_tasks.errors import UsageError
from continuum_tasks.model import TimelineId
from continuum_tasks.restore.find_commits import CommitSelection, commit_moment
from continuum_tasks.runtime import Runtime
from continuum_tasks.units import microseconds

FREE = "(free)"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOptions:
    """The words of the command; empty names are the defaults of the configuration."""

    around: datetime | None
    since: datetime | None
    limit: int
    timeline: TimelineId | None
    tables: bool
    database: str
    storage: str


@click.command("history")
@time_option("--around", "The commits before and after this time, as 2025-12-06T14:30:00Z or 24h.")
@time_option("--since", "Only what was observed since then.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, metavar="N", help="At most this many.")
@parameters.timeline_option("Only of this timeline [default: all, the newest first].")
@click.option("--tables", is_flag=True, help="Show to which tables the written pages belong now; for 256 MiB at most.")
@parameters.name_option("--database", "Of this database [default: the default one].")
@parameters.name_option("--storage", "Read this storage [default: the one the database's backups go to].")
@shared_options
def history(**words: Any) -> None:
    """List captured commits, newest first.

    Each can be restored by its number. A commit was made at most that long before it was observed.
    A hole is a time without capture.
    `continuum backup history --around "2025-12-06 14:30" --tables`
    """
    options = HistoryOptions(**words)
    if options.around is not None and options.since is not None:
        raise UsageError("--around and --since exclude each other", hint="use only one of them")
    with open_runtime_of_command() as runtime:
        of = _asked(runtime, options)
        entries = _entries(of, options)
        others = [] if entries else of.others()
        tables = _tables(runtime, entries, options) if options.tables else None
    if cli_context().as_json:
        output.print_document({"commits": [_fields(entry, tables) for entry in entries]})
        return
    if not entries:
        output.print_text("no commits: none was captured, or none since then")
        if others:
            output.remark(f"this is database {of.database}; commits of others are there: --database {' or '.join(others)}")
        return
    _show(entries, tables)


def _asked(runtime: Runtime, options: HistoryOptions) -> CommitSelection:
    database = options.database or runtime.config.default_database
    return CommitSelection(runtime=runtime, database=database, storage=options.storage, timeline=options.timeline)


def _entries(of: CommitSelection, options: HistoryOptions) -> list[CommitEntry]:
    wanted = CommitQuery(
        limit=options.limit,
        around_us=None if options.around is None else microseconds(options.around),
        since_us=None if options.since is None else microseconds(options.since),
    )
    return list_commits(of.logs(), wanted)


def _tables(runtime: Runtime, entries: Sequence[CommitEntry], options: HistoryOptions) -> dict[int, str]:
    from continuum_tasks.sqlite.live import tables_of

    path = runtime.config.database(options.database).path
    return tables_of(path, {pgno for entry in entries for pgno in entry.pgnos})


def _touched(entry: CommitEntry, tables: dict[int, str]) -> Counter[str]:
    """Return how many of a commit's pages each table has now."""
    return Counter(tables.get(pgno, FREE) for pgno in entry.pgnos)


def _fields(entry: CommitEntry, tables: dict[int, str] | None) -> dict[str, Any]:
    found = commit_fields(entry.seen)
    return found if tables is None else {**found, "tables_now": dict(_touched(entry, tables).most_common())}


def _show(entries: Sequence[CommitEntry], tables: dict[int, str] | None) -> None:
    columns = [
        TableColumn(title="commit", right=True),
        TableColumn(title="observed (utc)"),
        TableColumn(title="made within", right=True),
        TableColumn(title="pages", right=True),
        TableColumn(title="size", right=True),
        *([TableColumn(title="tables now", folds=True)] if tables is not None else []),
    ]
    timelines = list(dict.fromkeys(entry.seen.timeline for entry in entries))
    for number, timeline in enumerate(timelines):
        output.print_text(f"{'' if number == 0 else chr(10)}{timeline}")
        mine = [entry for entry in entries if entry.seen.timeline == timeline]
        print_table(columns, [row for entry in mine for row in _rows(entry, tables)])


def _rows(entry: CommitEntry, tables: dict[int, str] | None) -> list[list[str]]:
    """Return the row of a commit, and below it that of the hole before it."""
    seen = entry.seen
    touched = [] if tables is None else [", ".join(f"{name} {n}" for name, n in _touched(entry, tables).most_common())]
    if not seen.resumed:
        within, pages = output.duration(seen.uncertainty_seconds), str(seen.pages)
        return [[str(seen.number), commit_moment(seen), within, pages, output.size(seen.size_bytes), *touched]]
    extra = [""] * len(touched)
    row = [str(seen.number), commit_moment(seen), "state found", "", output.size(seen.size_bytes), *extra]
    if seen.number == 1:
        return [row]
    return [row, ["", f"hole of {output.duration(seen.uncertainty_seconds)}: {seen.reason}", "", "", "", *extra]]
