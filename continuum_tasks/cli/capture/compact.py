"""continuum backup compact."""

from __future__ import annotations

import click

from continuum_tasks.capture.compact import Compacted, CompactRequest, Merged, preview_compaction
from continuum_tasks.cli.frame import dispatch, enqueue, output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.host.job_kinds import CompactSegments
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.find_commits import repository_of


@click.command("compact")
@click.option("--dry-run", is_flag=True, help="Show what would be merged; change nothing.")
@parameters.name_option("--database", "Segments of this database [default: the default one].")
@parameters.name_option("--storage", "In this storage [default: the one the database's backups go to].")
@dispatch.local_option
@shared_options
def compact(dry_run: bool, database: str, storage: str, local: bool | None) -> None:
    """Merge captured segments of hours that are over into larger ones; every commit stays.

    Capture has it done by itself. `continuum backup compact --dry-run`
    """
    how = dispatch.execution_mode(local)
    with open_runtime_of_command() as runtime:
        name = database or runtime.config.default_database
        repository = repository_of(runtime, name, storage)
        if dry_run:
            steps = preview_compaction(CompactRequest(database=name), repository=repository, site=runtime.site)
            done: Compacted = dispatch.run_locally(steps, title=f"compaction of {name}")
        else:
            done = dispatch.execute(_work(name, repository.name), runtime, how)
    for key in done.foreign:
        output.warn(f"object {key}: holds other commits than the merged segment that covers it; it stays")
    _show(done)


def _work(database: str, storage: str) -> enqueue.Subject:
    return enqueue.Subject(
        arguments=CompactSegments(database=database, storage=storage),
        title=f"compaction of {database}",
        database=database,
        seen_by="`continuum backup compact --dry-run` shows what is left to merge",
    )


def _show(done: Compacted) -> None:
    if cli_context().as_json:
        output.print_document(to_json(done))
        return
    if done.merges:
        columns = [TableColumn(title="timeline"), TableColumn(title="seqs"), TableColumn(title="segments", right=True)]
        columns += [TableColumn(title="read", right=True), TableColumn(title="written", right=True)]
        print_table(columns, [_row(one) for one in done.merges])
    would = "would be " if done.dry_run else ""
    n_parts = sum(one.n_segments for one in done.merges)
    left = f", {done.n_left} merges left for the next run" if done.n_left else ""
    doubles = f", {done.n_stale} doubles removed" if done.n_stale else ""
    output.print_text(f"{n_parts} segments {would}merged into {len(done.merges)}{doubles}{left}; {done.n_requests} requests")


def _row(one: Merged) -> list[str]:
    written = output.size(one.written_bytes) if one.written_bytes else ""
    return [one.timeline, f"{one.first_seq}-{one.last_seq}", str(one.n_segments), output.size(one.read_bytes), written]
