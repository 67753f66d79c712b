"""continuum backup compact."""

from __future__ import annotations

from collections.abc import Generator

import click

from continuum_tasks.capture import compact as action
from continuum_tasks.cli.frame import dispatch, output, parameters
from continuum_tasks.cli.frame.context import asked, opened, shared
from continuum_tasks.cli.frame.enqueue import Row
from continuum_tasks.cli.frame.table import Column, table
from continuum_tasks.cli.select import commits
from continuum_tasks.host import routing
from continuum_tasks.model import Progress
from continuum_tasks.repository.documents import to_json
from continuum_tasks.runtime import Runtime


@click.command("compact")
@click.option("--dry-run", is_flag=True, help="Say what would be merged; change nothing.")
@parameters.name_option("--database", "Segments of this database [default: the default one].")
@parameters.name_option("--storage", "In this storage [default: the one the database's backups go to].")
@dispatch.local_option
@shared
def compact(dry_run: bool, database: str, storage: str, local: bool | None) -> None:
    """Merge captured segments of hours that are over into larger ones; every commit stays.

    Capture has it done by itself. `continuum backup compact --dry-run`
    """
    how = dispatch.manner(local)
    with opened() as runtime:
        name = database or runtime.config.default_database
        repository = commits.repository_of(runtime, name, storage)
        request = action.Request(database=name)
        if dry_run:
            steps = action.preview(request, repository=repository, site=runtime.site)
            done: action.Compacted = dispatch.run_here(steps, title=f"compaction of {name}")
        else:
            done = dispatch.do(_work(request, repository.name), runtime, how)
    for key in done.foreign:
        output.warn(f"object {key}: holds other commits than the merged segment that covers it; it stays")
    _show(done)


def _work(request: action.Request, storage: str) -> dispatch.Work:
    def here(runtime: Runtime) -> Generator[Progress, None, action.Compacted]:
        return action.run(request, repository=runtime.repository(storage), site=runtime.site, still_mine=lambda: None)

    return dispatch.Work(
        title=f"compaction of {request.database}",
        row=Row(
            kind="compact_segments",
            task=routing.COMPACT_SEGMENTS,
            args={"database": request.database, "storage": storage},
            database=request.database,
            priority=routing.LOW_PRIORITY,
            seen_by="`continuum backup compact --dry-run` shows what is left to merge",
        ),
        here=here,
        result=action.Compacted,
    )


def _show(done: action.Compacted) -> None:
    if asked().as_json:
        output.document(to_json(done))
        return
    if done.merges:
        columns = [Column(title="timeline"), Column(title="seqs"), Column(title="segments", right=True)]
        columns += [Column(title="read", right=True), Column(title="written", right=True)]
        table(columns, [_row(one) for one in done.merges])
    would = "would be " if done.dry_run else ""
    n_parts = sum(one.n_segments for one in done.merges)
    left = f", {done.n_left} merges left for the next run" if done.n_left else ""
    doubles = f", {done.n_stale} doubles removed" if done.n_stale else ""
    output.say(f"{n_parts} segments {would}merged into {len(done.merges)}{doubles}{left}; {done.n_requests} requests")


def _row(one: action.Merged) -> list[str]:
    written = output.size(one.written_bytes) if one.written_bytes else ""
    return [one.timeline, f"{one.first_seq}-{one.last_seq}", str(one.n_segments), output.size(one.read_bytes), written]
