"""continuum backup report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from continuum_tasks import __version__
from continuum_tasks.cli.frame import output as emit
from continuum_tasks.cli.frame import parameters
from continuum_tasks.cli.frame.context import asked, opened, shared
from continuum_tasks.cli.frame.table import Column, facts, table
from continuum_tasks.cli.report.usage import fields as usage_fields
from continuum_tasks.cli.report.usage import growth, index
from continuum_tasks.report import report as action
from continuum_tasks.report import write_file
from continuum_tasks.report.html.capture import share
from continuum_tasks.report.html.document import document
from continuum_tasks.report.plan import summary
from continuum_tasks.report.plan.capture_coverage import Captured, Missed
from continuum_tasks.report.plan.report import DatabaseReport, Report
from continuum_tasks.report.plan.trend import sparkline
from continuum_tasks.report.plan.usage import StorageUsage
from continuum_tasks.repository.documents import to_json

TREND_WIDTH = 28
LAG_TREND_WIDTH = 14
MAX_LINES = 10


@click.command("report")
@click.option("--day", "period", flag_value="day", help="The last 24 hours.")
@click.option("--week", "period", flag_value="week", help="The last 7 days [default].")
@click.option("--month", "period", flag_value="month", help="The last 30 days.")
@click.option("--output", metavar="FILE.html", type=parameters.path, default=None, help="Also write it as one HTML page.")
@shared
def report(period: str | None, output: Path | None) -> None:
    """Report on this host's backups: made and failed, recovery points, drills, verification, storage, retention, anomalies.

    The page needs no network and no other file, so it can be mailed and printed. A report that is there is replaced.

    \b
    Example:
      continuum backup report --month --output backups.html
    """
    with opened() as runtime:
        for err in index(runtime, [storage.name for storage in runtime.config.storages]):
            emit.warn(f"{err.message}: backups known only there are missing from this report")
        made = action.run(period or "week", config=runtime.config, site=runtime.site, jobs=runtime.jobs)
        if output is not None:
            page = document(made, version=__version__)
            write_file.write(output, page, nonce=runtime.site.random_bytes(6).hex())
    if asked().as_json:
        emit.document({**fields(made), "output": None if output is None else str(output)})
        return
    _show(made)
    if output is not None:
        emit.say(f"\nwritten: {output}")


def fields(made: Report) -> dict[str, Any]:
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


def _show(made: Report) -> None:
    period = made.period
    emit.say(f"{made.host}: the {period.name} from {emit.moment(period.since)} to {emit.moment(period.until)} UTC\n")
    _attention(made)
    bars = made.bars
    facts(
        [
            ("backups made", f"{made.n_made:<6} {sparkline([bar.n_made for bar in bars], width=TREND_WIDTH)}"),
            (
                "failed",
                f"{made.n_failed:<6} {sparkline([bar.n_failed for bar in bars], width=TREND_WIDTH) if made.n_failed else ''}",
            ),
            ("suspect", str(len(made.suspects))),
            ("stored", emit.size(made.stored_bytes)),
            ("drills", _drills(made)),
            ("retention", f"{len(made.decisions)} decision{'' if len(made.decisions) == 1 else 's'}"),
        ]
    )
    emit.say("")
    columns = [Column(title="database", folds=True), *(Column(title=t, right=True) for t in ("made", "failed", "suspect"))]
    columns += [*(Column(title=title, right=True) for title in ("worst age", "gaps", "chains proven"))]
    table([*columns, Column(title="age of the recovery point")], [_database(database) for database in made.databases])
    _captures(made)
    emit.say("")
    storages = [Column(title="storage", folds=True), *(Column(title=t, right=True) for t in ("stored", "growth/day"))]
    table([*storages, Column(title="full"), Column(title="level")], [_storage(storage) for storage in made.storages])
    _lists(made)


def _attention(made: Report) -> None:
    if not made.attention:
        emit.say("nothing to attend to\n")
        return
    columns = [Column(title="status"), Column(title="what"), Column(title="found", folds=True)]
    rows = [[f.severity.value, f.subject, f"{f.text}\n{f.hint}" if f.hint else f.text] for f in made.attention]
    table(columns, rows)
    emit.say("")


def _drills(made: Report) -> str:
    drills = made.drills
    if not drills.history:
        return "none yet"
    trend = sparkline([drill.rto_seconds for drill in drills.history], width=TREND_WIDTH)
    last = drills.history[-1]
    result = "passed" if last.passed else "FAILED"
    return f"{len(drills.in_period):<6} {trend} last: {result} in {emit.duration(last.rto_seconds)}"


def _database(database: DatabaseReport) -> list[str]:
    exposed, coverage = database.exposure, database.coverage
    worst = "none" if exposed.worst_seconds is None else emit.duration(exposed.worst_seconds)
    return [
        database.name,
        *(str(n) for n in (database.n_made, database.n_failed, database.n_suspect)),
        worst,
        str(len(exposed.gaps)),
        f"{coverage.n_chains_proven} of {coverage.n_chains}",
        sparkline(exposed.ages, width=TREND_WIDTH),
    ]


def _captures(made: Report) -> None:
    found = [(database.name, database.capture) for database in made.databases if database.capture is not None]
    if found:
        emit.say("")
        titles = ("covered", "holes", "lag p50", "lag p95", "log peak", "stored", "requests")
        columns = [Column(title="captured", folds=True), *(Column(title=title, right=True) for title in titles)]
        table([*columns, Column(title="lag p95")], [_capture(name, capture) for name, capture in found])


def _capture(name: str, capture: Captured) -> list[str]:
    lags = (capture.lag_p50_seconds, capture.lag_p95_seconds)
    return [
        name,
        share(capture.share),
        str(len(capture.holes)),
        *("" if lag is None else emit.duration(lag) for lag in lags),
        *(emit.size(n_bytes) for n_bytes in (capture.wal_peak_bytes, capture.stored_bytes)),
        f"{capture.n_requests:,}",
        sparkline([p95 for _, p95 in capture.slice_lags], width=LAG_TREND_WIDTH),
    ]


def _storage(storage: StorageUsage) -> list[str]:
    full = "" if storage.fills_at is None else f"{storage.fills_at:%Y-%m-%d}"
    level = sparkline([point.n_bytes for point in storage.points], width=TREND_WIDTH)
    return [storage.storage, emit.size(storage.used_bytes), growth(storage.growth_bytes_per_day), full, level]


def _lists(made: Report) -> None:
    failed = [[emit.moment(f.at), f"{f.kind} {f.database}".strip(), f"{f.error}: {f.message}"] for f in made.failed]
    suspect = [
        [emit.moment(group.since), group.subject, "; ".join(group.last.suspect_reasons)]
        for group in summary.suspected(made.suspects)
    ]
    decided = [
        [emit.moment(d.at), f"{d.action} {group.subject}", f"{d.outcome}: {d.detail}".rstrip(": ")]
        for group, d in ((group, group.last) for group in summary.decided(made.decisions))
    ]
    holes = [
        [emit.moment(hole.begins_at), f"{database.name}, for {emit.duration(_seconds(hole))}", hole.reason]
        for database in made.databases
        for hole in (database.capture.holes if database.capture is not None else ())
    ]
    for title, rows in (("failed", failed), ("hole in", holes), ("suspect", suspect), ("retention", decided)):
        _list(title, rows)


def _seconds(hole: Missed) -> float:
    return (hole.ends_at - hole.begins_at).total_seconds()


def _list(title: str, rows: Sequence[Sequence[str]]) -> None:
    if rows:
        emit.say("")
        table([Column(title="at (utc)"), Column(title=title, folds=True), Column(title="why", folds=True)], rows[:MAX_LINES])
        if len(rows) > MAX_LINES:
            emit.say(f"and {len(rows) - MAX_LINES} more: --format json or --output has them")
