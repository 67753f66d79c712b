"""A report as one HTML page that needs nothing else: no network, no script, charts drawn in it. Pure."""

from __future__ import annotations

from continuum_tasks.findings import Finding, Severity
from continuum_tasks.report.html import capture, sections
from continuum_tasks.report.html.markup import Html, tag
from continuum_tasks.report.html.parts import UNKNOWN, count, moment_text, seconds_text, size_text
from continuum_tasks.report.html.style import CSS
from continuum_tasks.report.plan.report import PeriodReport

BEGIN = "<!doctype html>\n"
# Nothing may be loaded or run, whatever a name in the report might try; the style is in the page itself.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def html_page(report: PeriodReport, *, version: str) -> str:
    """Return the whole page."""
    title = f"Backup report of {report.host}, {report.period.name} to {moment_text(report.period.until)} UTC"
    head = tag(
        "head",
        None,
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("title", None, title),
        tag("style", None, Html(CSS)),
    )
    shown = (
        *(sections.backups, sections.exposure_section, capture.section_of, sections.drills, sections.verification),
        *(sections.storage_section, sections.retention, sections.anomalies),
    )
    made = f"Made by continuum {version} on {report.host} at {moment_text(report.period.until)} UTC. All times are UTC."
    body = tag("main", None, _header(report), _tiles(report), *(show(report) for show in shown), tag("footer", None, made))
    return f"{BEGIN}{tag('html', {'lang': 'en'}, head, tag('body', None, body))}\n"


def _header(report: PeriodReport) -> Html:
    period = report.period
    words = f"The {period.name} from {moment_text(period.since)} to {moment_text(period.until)} UTC"
    n_critical = sum(finding.severity is Severity.CRITICAL for finding in report.attention)
    if report.attention:
        critical = f", {n_critical} critical" if n_critical else ""
        verdict = f"{len(report.attention)} thing{'' if len(report.attention) == 1 else 's'} to attend to{critical}"
    else:
        verdict = "Nothing to attend to"
    lines = [_line(finding) for finding in report.attention] or [_all_well(report)]
    heading = tag("h2", {"id": "attention-title"}, verdict)
    attention = tag("section", {"aria-labelledby": "attention-title"}, heading, tag("ul", {"class": "attention"}, *lines))
    return tag("header", None, tag("h1", None, f"Backup report · {report.host}"), tag("p", {"class": "soft"}, words), attention)


def _line(finding: Finding) -> Html:
    hint = [tag("span", {"class": "hint"}, finding.hint)] if finding.hint else []
    mark = tag("span", {"class": "mark"}, finding.severity.value)
    return tag("li", {"class": finding.severity.value}, mark, tag("b", None, finding.subject), f": {finding.text}", *hint)


def _all_well(report: PeriodReport) -> Html:
    words = f"{count(report.n_made, 'backup')} made, none failed; every database has a recent, verified recovery point."
    return tag("li", {"class": "ok"}, tag("span", {"class": "mark"}, "ok"), words)


def _tiles(report: PeriodReport) -> Html:
    exposures = [database.exposure for database in report.databases if database.declared]
    worst = max((e.worst_seconds for e in exposures if e.worst_seconds is not None), default=None)
    n_gaps = sum(len(exposure.gaps) for exposure in exposures)
    n_chains = sum(database.coverage.n_chains for database in report.databases)
    n_proven = sum(database.coverage.n_chains_proven for database in report.databases)
    last = report.drills.history[-1] if report.drills.history else None
    used = sum(storage.used_bytes for storage in report.storages)
    growths = [s.growth_bytes_per_day for s in report.storages if s.growth_bytes_per_day is not None]
    tiles = [
        ("bad" if report.n_failed else "", f"{report.n_made:,}", f"backups made, {report.n_failed} failed"),
        (
            "bad" if n_gaps else "",
            "none" if worst is None else seconds_text(worst),
            f"worst recovery point, {count(n_gaps, 'gap')}",
        ),
        (
            "bad" if last is not None and not last.passed else "",
            UNKNOWN if last is None else seconds_text(last.rto_seconds),
            "no drill yet" if last is None else f"RTO of the last drill, {'passed' if last.passed else 'failed'}",
        ),
        ("warn" if n_proven < n_chains else "", f"{n_proven} of {n_chains}", "chains proven by a test restore"),
        ("", size_text(used), f"stored, {size_text(sum(growths))} more a day" if growths else "stored"),
    ]
    return tag("div", {"class": "tiles"}, *(_tile(*tile) for tile in tiles))


def _tile(kind: str, value: str, words: str) -> Html:
    return tag("div", {"class": f"tile {kind}".strip()}, tag("b", None, value), tag("span", None, words))
