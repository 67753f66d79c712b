"""continuum backup extract."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from continuum_tasks.cli.frame import dispatch, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.output import (
    PIPE_CLOSED,
    duration,
    error_fields,
    hush,
    moment,
    print_document,
    print_remarks,
    print_text,
    remark,
    warn,
)
from continuum_tasks.cli.frame.parameters import time_option
from continuum_tasks.cli.frame.table import TableColumn, commit_fields, print_facts, print_table
from continuum_tasks.errors import TargetError, TargetExists, UsageError
from continuum_tasks.host.audit_trail import AuditEntry, user
from continuum_tasks.model import BackupId, TimelineId
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.extract import Extracted, ExtractRequest, Out, extract_rows
from continuum_tasks.restore.find_commits import commit_text
from continuum_tasks.restore.resolve_point import PointQuery, check_point_query, resolve_point
from continuum_tasks.restore.rows.match import Match, OnConflict
from continuum_tasks.restore.rows.render import Form

SHOWN_COLUMNS, SHOWN_CHARACTERS = 6, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractOptions:
    """The words of the command; empty names are the defaults of the configuration."""

    backup_id: BackupId | None
    pitr: datetime | None
    commit: int | None
    timeline: TimelineId | None
    table: str
    where: str
    into: Path | None
    on_conflict: str | None
    dry_run: bool
    output: Path | None
    database: str
    storage: str
    region: str

    @property
    def wanted(self) -> PointQuery:
        return PointQuery(
            backup_id=self.backup_id,
            pitr=self.pitr,
            commit=self.commit,
            timeline=self.timeline,
            database=self.database,
            storage=self.storage,
        )


@click.command("extract")
@click.argument("backup_id", metavar="[ID]", type=parameters.backup_id, required=False)
@time_option("--pitr", "Instead of ID: the state at this time, as 2025-12-06T14:30:00Z or 24h.")
@parameters.commit_options
@click.option("--table", required=True, metavar="TABLE", help="The table whose rows are wanted.")
@click.option("--where", default="", metavar="SQL", help="Which rows: an SQL expression, which can only read the backup.")
@click.option("--into", type=parameters.file, default=None, metavar="PATH", help="The live database to insert them into.")
@click.option(
    "--on-conflict",
    type=click.Choice([one.value for one in OnConflict]),
    default=None,
    help="With --into, for rows that are there with other content: keep those, take the backup's, or stop [default: fail].",
)
@click.option("--dry-run", is_flag=True, help="With --into: show what would be written, and write nothing.")
@click.option(
    "--output", type=parameters.file, default=None, metavar="FILE", help="Write the rows to a new file: .sql or .jsonl."
)
@parameters.name_option("--database", "With --pitr or --commit: of this database [default: the default one].")
@parameters.name_option("--storage", "Take the backup from this storage.")
@parameters.region_option
@shared_options
def extract(**words: Any) -> None:
    """Restore rows of one table from a backup, also while the service runs.

    With --into they are inserted in one transaction, foreign keys respected; rows that are there already are left alone.
    Otherwise they are printed. `continuum backup extract --pitr 24h --table messages --into memory.db --dry-run`
    """
    options = ExtractOptions(**words)
    _check(options)
    with open_runtime_of_command() as runtime:
        runtime = runtime.in_region(options.region, storage=options.storage)
        state = print_remarks(resolve_point(options.wanted, runtime=runtime))
        request = ExtractRequest(
            backup_id=state.backup.id,
            commit=state.commit,
            table=options.table,
            where=options.where,
            into=options.into,
            on_conflict=OnConflict(options.on_conflict or OnConflict.FAIL),
            dry_run=options.dry_run,
            region=options.region,
        )
        with _out(options) as out:
            repository = runtime.repository(state.backup.storage)
            steps = extract_rows(request, repository=repository, site=runtime.site, fan=runtime.fan(), out=out)
            steps = dispatch.with_command_audit(steps, _deed(request, options), runtime)
            done: Extracted = dispatch.run_locally(steps, title=f"extract from {state.name}")
    _show(done, options)


def _deed(request: ExtractRequest, options: ExtractOptions) -> AuditEntry | None:
    if request.dry_run:
        return None
    to = options.into or options.output
    rows = f"{request.table}{f' where {request.where}' if request.where else ''}"
    source = f"commit {request.commit.number} of {request.commit.timeline}" if request.commit else request.backup_id
    return AuditEntry(action="extract", subject=str(to or "standard output"), by=user(), detail=f"{source}, {rows}")


def _check(options: ExtractOptions) -> None:
    check_point_query(options.wanted)
    if options.into is None and (options.on_conflict or options.dry_run):
        raise UsageError("--on-conflict and --dry-run require --into", hint="name the live database")
    if options.into is not None and options.output is not None:
        raise UsageError("--into and --output exclude each other", hint="use only one of them")
    if options.output is not None and options.output.suffix not in (".sql", ".jsonl"):
        raise UsageError(
            f"--output {parameters.quoted_word(options.output.name)}: neither .sql nor .jsonl",
            hint="the suffix says which form is meant",
        )


@contextmanager
def _out(options: ExtractOptions) -> Iterator[Out | None]:
    """Open what rows are written to: a new file (gone again on any error), or standard output with JSON."""
    if options.output is None:
        to_stdout = cli_context().as_json and options.into is None
        try:
            yield Out(stream=sys.stdout.buffer, form=Form.LINES) if to_stdout else None
            sys.stdout.buffer.flush()
        except BrokenPipeError as err:
            hush()
            raise click.exceptions.Exit(PIPE_CLOSED) from err
        return
    form = Form.SQL if options.output.suffix == ".sql" else Form.LINES
    try:
        descriptor = os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as err:
        raise TargetExists(f"{options.output}: exists", hint="name another file") from err
    except OSError as err:
        raise TargetError(f"{options.output}: cannot be made ({err.strerror})", hint="check the directory") from err
    whole = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield Out(stream=file, form=form)
            file.flush()
            os.fsync(file.fileno())
        whole = True
    finally:
        if not whole:
            options.output.unlink(missing_ok=True)


def _show(done: Extracted, options: ExtractOptions) -> None:
    for text in (*done.warnings, *(done.match.differences if done.match else ())):
        warn(text)
    if done.refused is not None:
        warn(f"it would be refused: {done.refused.message}")
        remark(f"hint: {done.refused.hint}")
    if cli_context().as_json:
        if options.into is not None or options.output is not None:
            print_document(_fields(done, options))
        return
    if done.match is not None:
        _show_brought(done, done.match)
        return
    if options.output is not None:
        print_text(f"{done.n_rows} rows of {done.table} written to {options.output}")
        return
    _show_rows(done)
    more = "" if done.n_rows <= len(done.shown) else f", the first {len(done.shown)} shown; --format json or --output has all"
    print_text(f"\n{done.n_rows} rows of {done.table}{more}")


def _show_brought(done: Extracted, found: Match) -> None:
    brought = done.brought
    counts = [
        ("backup", f"{done.backup.id}, state of {moment(done.backup.created_at)} UTC")
        if done.commit is None
        else ("state", commit_text(done.commit)),
        ("table", f"{done.table}{' (not there: made as in the backup)' if found.creates else ''}"),
        ("picked", f"{done.n_rows} rows"),
        ("there already", str(found.n_same)),
        ("other content", str(found.n_conflicts)),
    ]
    if brought is None:
        counts.append(("would be inserted", str(found.n_new)))
    else:
        counts += [
            ("inserted", str(brought.n_inserted)),
            ("replaced", str(brought.n_replaced)),
            ("writers waited", f"at most {duration(brought.locked_seconds)}"),
        ]
    print_facts(counts)
    if brought is None and done.shown:
        print_text("\nsuch as:")
        _show_rows(done)


def _show_rows(done: Extracted) -> None:
    if not done.shown:
        return
    names = done.columns[:SHOWN_COLUMNS]
    rows = [[_cell(row[name]) for name in names] for row in done.shown]
    print_table([TableColumn(title=name, folds=True) for name in names], rows)
    if len(done.columns) > len(names):
        print_text(f"and the columns {', '.join(done.columns[len(names) :])}")


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    text = f"{value['type']}" if isinstance(value, dict) and "type" in value else str(value)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def _fields(done: Extracted, options: ExtractOptions) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "backup_id": done.backup.id,
        "created_at": done.backup.created_at.isoformat(),
        "commit": commit_fields(done.commit) if done.commit else None,
        "table": done.table,
        "n_rows": done.n_rows,
        "warnings": list(done.warnings),
    }
    if done.match is None:
        return {**fields, "output": str(options.output)}
    match = to_json(done.match)
    del match["sample"]
    brought = None if done.brought is None else {k: v for k, v in to_json(done.brought).items() if k != "found"}
    return {
        **fields,
        "into": str(options.into),
        "on_conflict": options.on_conflict or OnConflict.FAIL.value,
        "dry_run": options.dry_run,
        **match,
        "sample": list(done.shown),
        "refused": None if done.refused is None else error_fields(done.refused),
        "written": brought,
    }
