"""continuum backup report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from continuum_tasks import __version__
from continuum_tasks.cli.frame import parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.output import duration, moment, print_document, print_text, size, warn
from continuum_tasks.cli.frame.table import TableColumn, print_facts, print_table
from continuum_tasks.cli.report.usage import growth, index_storages, usage_fields
from continuum_tasks.report.html.capture import share
from continuum_tasks.report.html.document import html_page
from continuum_tasks.report.plan import summary
from continuum_tasks.report.plan.capture_coverage import CaptureCoverage, ReportedHole
from continuum_tasks.report.plan.report import DatabaseReport, PeriodReport
from continuum_tasks.report.plan.trend import sparkline
from continuum_tasks.report.plan.usage import StorageUsage
from continuum_tasks.report.report import write_report_file, write_report_of
from continuum_tasks.repository.documents import to_json

TREND_WIDTH = 28
LAG_TREND_WIDTH = 14
MAX_LINES = 10


@click.command("report")
@click.option("--day", "period", flag_value="day", help="The last 24 hours.")
@click.option("--week", "period", flag_value="week", help="The last 7 days [default].")
@click.option("--month", "period", flag_value="month", help="The last 30 days.")
@click.option("--output", metavar="FILE.html", type=parameters.path_value, default=None, help="Also write it as one HTML page.")
@shared_options
def report(period: str | None, output: Path | None) -> None:
    """Report on this host's backups: made and failed, recovery points, drills, verification, storage, retention, anomalies.

    The page needs no network and no other file, so it can be mailed and printed. A report that is there is replaced.

    \b
    Example:
      continuum backup report --month --output backups.html
    """
    with open_runtime_of_command() as runtime:
        for err in index_storages(runtime, [storage.name for storage in runtime.config.storages]):
            warn(f"{err.message}: backups known only there are missing from this report")
        made = write_report_of(period or "week", config=runtime.config, site=runtime.site, jobs=runtime.jobs)
        if output is not None:
            page = html_page(made, version=__version__)
            write_report_file(output, page, nonce=runtime.site.random_bytes(6).hex())
    if cli_context().as_json:
        print_document({**report_fields(made), "output": None if output is None else str(output)})
        return
    _show(made)
    if output is not None:
        print_text(f"\nwritten: {output}")


def report_fields(made: PeriodReport) -> dict[str, Any]:
    """Return a report as JSON fields."""
    values = to_json(made)
    period = {key: values["period"][key] for key in ("name", "since", "until")}
    drills = made.drills
    return {
        **values,
        "period": period,
        "drills": {
            "n_made": len(drills.in_period),
            "n_failed": drills.n_failed,
            "change": drills.change,
            "history": values["drills"]["history"],
        },
        "storages": [usage_fields(storage) for storage in made.storages],
    }


def _show(made: PeriodReport) -> None:
    period = made.period
    print_text(f"{made.host}: the {period.name} from {moment(period.since)} to {moment(period.until)} UTC\n")
    _attention(made)
    bars = made.bars
    print_facts(
        [
            ("backups made", f"{made.n_made:<6} {sparkline([bar.n_made for bar in bars], width=TREND_WIDTH)}"),
            (
                "failed",
                f"{made.n_failed:<6} {sparkline([bar.n_failed for bar in bars], width=TREND_WIDTH) if made.n_failed else ''}",
            ),
            ("suspect", str(len(made.suspects))),
            ("stored", size(made.stored_bytes)),
            ("drills", _drills(made)),
            ("retention", f"{len(made.decisions)} decision{'' if len(made.decisions) == 1 else 's'}"),
        ]
    )
    print_text("")
    columns = [
        TableColumn(title="database", folds=True),
        *(TableColumn(title=t, right=True) for t in ("made", "failed", "suspect")),
    ]
    columns += [*(TableColumn(title=title, right=True) for title in ("worst age", "gaps", "chains proven"))]
    print_table(
        [*columns, TableColumn(title="age of the recovery point")], [_database(database) for database in made.databases]
    )
    _captures(made)
    print_text("")
    storages = [TableColumn(title="storage", folds=True), *(TableColumn(title=t, right=True) for t in ("stored", "growth/day"))]
    print_table(
        [*storages, TableColumn(title="full"), TableColumn(title="level")], [_storage(storage) for storage in made.storages]
    )
    _lists(made)


def _attention(made: PeriodReport) -> None:
    if not made.attention:
        print_text("nothing needs attention\n")
        return
    columns = [TableColumn(title="status"), TableColumn(title="what"), TableColumn(title="found", folds=True)]
    rows = [[f.severity.value, f.subject, f"{f.text}\n{f.hint}" if f.hint else f.text] for f in made.attention]
    print_table(columns, rows)
    print_text("")


def _drills(made: PeriodReport) -> str:
    drills = made.drills
    if not drills.history:
        return "none yet"
    trend = sparkline([drill.rto_seconds for drill in drills.history], width=TREND_WIDTH)
    last = drills.history[-1]
    result = "passed" if last.passed else "FAILED"
    return f"{len(drills.in_period):<6} {trend} last: {result} in {duration(last.rto_seconds)}"


def _database(database: DatabaseReport) -> list[str]:
    exposed, coverage = database.exposure, database.coverage
    worst = "none" if exposed.worst_seconds is None else duration(exposed.worst_seconds)
    return [
        database.name,
        *(str(n) for n in (database.n_made, database.n_failed, database.n_suspect)),
        worst,
        str(len(exposed.gaps)),
        f"{coverage.n_chains_proven} of {coverage.n_chains}",
        sparkline(exposed.ages, width=TREND_WIDTH),
    ]


def _captures(made: PeriodReport) -> None:
    found = [(database.name, database.capture) for database in made.databases if database.capture is not None]
    if found:
        print_text("")
        titles = ("covered", "holes", "lag p50", "lag p95", "log peak", "stored", "requests")
        columns = [TableColumn(title="captured", folds=True), *(TableColumn(title=title, right=True) for title in titles)]
        print_table([*columns, TableColumn(title="lag p95")], [_capture(name, capture) for name, capture in found])


def _capture(name: str, capture: CaptureCoverage) -> list[str]:
    lags = (capture.lag_p50_seconds, capture.lag_p95_seconds)
    return [
        name,
        share(capture.share),
        str(len(capture.holes)),
        *("" if lag is None else duration(lag) for lag in lags),
        *(size(n_bytes) for n_bytes in (capture.wal_peak_bytes, capture.stored_bytes)),
        f"{capture.n_requests:,}",
        sparkline([p95 for _, p95 in capture.slice_lags], width=LAG_TREND_WIDTH),
    ]


def _storage(storage: StorageUsage) -> list[str]:
    full = "" if storage.fills_at is None else f"{storage.fills_at:%Y-%m-%d}"
    level = sparkline([point.n_bytes for point in storage.points], width=TREND_WIDTH)
    return [storage.storage, size(storage.used_bytes), growth(storage.growth_bytes_per_day), full, level]


def _lists(made: PeriodReport) -> None:
    failed = [[moment(f.at), f"{f.kind} {f.database}".strip(), f"{f.error}: {f.message}"] for f in made.failed]
    suspect = [
        [moment(group.since), group.subject, "; ".join(group.last.suspect_reasons)]
        for group in summary.suspected(made.suspects)
    ]
    decided = [
        [moment(d.at), f"{d.action} {group.subject}", f"{d.outcome}: {d.detail}".rstrip(": ")]
        for group, d in ((group, group.last) for group in summary.decided(made.decisions))
    ]
    holes = [
        [moment(hole.begins_at), f"{database.name}, for {duration(_seconds(hole))}", hole.reason]
        for database in made.databases
        for hole in (database.capture.holes if database.capture is not None else ())
    ]
    for title, rows in (("failed", failed), ("hole in", holes), ("suspect", suspect), ("retention", decided)):
        _list(title, rows)


def _seconds(hole: ReportedHole) -> float:
    return (hole.ends_at - hole.begins_at).total_seconds()


def _list(title: str, rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print_text("")
        print_table(
            [TableColumn(title="at (utc)"), TableColumn(title=title, folds=True), TableColumn(title="why", folds=True)],
            rows[:MAX_LINES],
        )
        if len(rows) > MAX_LINES:
            print_text(f"and {len(rows) - MAX_LINES} more: --format json or --output has them")
