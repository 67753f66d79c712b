"""The page's section on captures: how much of the time they covered, holes, lag, and what they cost. Pure."""

from __future__ import annotations

from continuum_tasks.report.html import svg
from continuum_tasks.report.html.parts import (
    UNKNOWN,
    Html,
    HtmlColumn,
    axis,
    code_text,
    count,
    html_table,
    join,
    keys,
    moment_text,
    paragraph,
    seconds_text,
    section,
    size_text,
    tag,
    word,
)
from continuum_tasks.report.plan.capture_coverage import CaptureCoverage
from continuum_tasks.report.plan.report import Period, PeriodReport

NUMBER, WHEN, LONG = "number", "when", "long"


def section_of(report: PeriodReport) -> Html:
    """What was captured, commit by commit; nothing where no database was."""
    found = [(database.name, database.capture) for database in report.databases if database.capture is not None]
    if not found:
        return join([])
    words = (
        "Every commit of these databases is captured and can be restored by itself. Covered is the time in which every commit "
        "was captured and, within a minute, in the storage; what was committed in a hole is unknown."
    )
    columns = [
        HtmlColumn(title="database"),
        *(HtmlColumn(title=name, kind=NUMBER) for name in ("covered", "holes", "commits", "lag p50", "lag p95")),
        *(HtmlColumn(title=name, kind=NUMBER) for name in ("log at most", "stored", "requests")),
    ]
    rows = [_row(name, capture) for name, capture in found]
    charts = [_charts(name, capture, number, report.period) for number, (name, capture) in enumerate(found)]
    return section("capture", "Capture", paragraph(words), html_table(columns, rows), *charts)


def share(value: float) -> str:
    """Show a share as a percentage that says 100 only when nothing is missing."""
    return "100 %" if value >= 1 else f"{min(99.99, 100 * value):.2f} %"


def _row(name: str, capture: CaptureCoverage) -> list[str]:
    covered = share(capture.share)
    return [
        name,
        covered if capture.share > 0.999 else word("bad", covered),
        word("bad", str(len(capture.holes))) if capture.holes else "0",
        f"{capture.n_commits:,}",
        seconds_text(capture.lag_p50_seconds),
        seconds_text(capture.lag_p95_seconds),
        size_text(capture.wal_peak_bytes),
        size_text(capture.stored_bytes),
        f"{capture.n_requests:,}",
    ]


def _charts(name: str, capture: CaptureCoverage, number: int, period: Period) -> Html:
    width = (period.until - period.since) / period.n_slices
    begins = [moment_text(period.since + i * width) for i in range(period.n_slices)]
    kinds = ["" if value is None else "ok" if value >= 0.999 else "warn" if value > 0 else "bad" for value in capture.slices]
    notes = [
        f"from {at} UTC: {UNKNOWN if value is None else share(value)} covered"
        for at, value in zip(begins, capture.slices, strict=True)
    ]
    missed = f", {seconds_text(capture.missed_seconds)} were not" if capture.missed_seconds >= 1 else ""
    words = f"{share(capture.share)} of the time since {moment_text(capture.begins_at)} UTC is covered{missed}"
    cover = svg.strip(
        svg.Title(key=f"covered-{number}", name=f"When every commit of {name} was captured", summary=words),
        kinds,
        period=axis(period),
        notes=notes,
    )
    return join(
        [
            tag("h3", None, name),
            paragraph(f"{words}; {count(len(capture.holes), 'hole')}."),
            cover,
            keys([("ok", "covered"), ("warn", "in part"), ("bad", "not at all")]),
            *_lags(name, capture, number, period, begins),
            *_holes(capture),
        ]
    )


def _lags(name: str, capture: CaptureCoverage, number: int, period: Period, begins: list[str]) -> list[Html]:
    if capture.lag_p95_seconds is None:
        return []
    words = (
        f"lag from commit to storage: p50 {seconds_text(capture.lag_p50_seconds)}, p95 {seconds_text(capture.lag_p95_seconds)}"
        " in the"
        f" median, p95 at worst {seconds_text(capture.lag_worst_seconds)}"
    )
    notes = [
        f"from {at} UTC: p50 {seconds_text(p50)}, p95 {seconds_text(p95)}"
        for at, (p50, p95) in zip(begins, capture.slice_lags, strict=True)
    ]
    title = svg.Title(key=f"lag-{number}", name=f"Time until commits of {name} were in the storage", summary=words)
    chart = svg.lags(title, capture.slice_lags, period=axis(period), notes=notes)
    return [paragraph(f"{words[0].upper()}{words[1:]}."), chart, keys([("good", "p50"), ("area", "p95")])]


def _holes(capture: CaptureCoverage) -> list[Html]:
    if not capture.holes:
        return []
    columns = [
        *(HtmlColumn(title="nothing captured from (UTC)", kind=WHEN), HtmlColumn(title="until (UTC)", kind=WHEN)),
        *(HtmlColumn(title="for", kind=NUMBER), HtmlColumn(title="first commit after it", kind=NUMBER)),
        HtmlColumn(title="why", kind=LONG),
    ]
    rows = [
        [
            f"{hole.begins_at:%Y-%m-%d %H:%M:%S}",
            f"{hole.ends_at:%Y-%m-%d %H:%M:%S}",
            seconds_text((hole.ends_at - hole.begins_at).total_seconds()),
            f"{hole.commit:,}",
            hole.reason,
        ]
        for hole in capture.holes
    ]
    return [html_table(columns, rows, more=join([": ", code_text("continuum backup history")]))]
