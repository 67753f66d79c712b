"""A report as one HTML page that needs nothing else: no network, no script, charts drawn in it. Pure."""

from __future__ import annotations

from continuum_tasks.findings import Finding, Severity
from continuum_tasks.report.html import capture, sections
from continuum_tasks.report.html.parts import UNKNOWN, Html, count, moment_text, seconds_text, size_text, tag
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
        needs = "thing needs" if len(report.attention) == 1 else "things need"
        verdict = f"{len(report.attention)} {needs} attention{critical}"
    else:
        verdict = "Nothing needs attention"
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


CSS = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1a2230;--soft:#5b6677;--line:#dfe3e9;--grid:#e8ebf0;
--good:#3b76c4;--fill:#3b76c433;--warn:#c98a12;--bad:#c8372d;--ok:#2c8a57;
--tint-bad:#fbeceb;--tint-warn:#fdf5e4;--tint-ok:#eaf6ef}
@media (prefers-color-scheme:dark){:root{--page:#12161d;--card:#1a2029;--ink:#e7ebf1;--soft:#9aa6b6;
--line:#2d3541;--grid:#262d38;--good:#6fa4e8;--fill:#6fa4e833;--warn:#e3ad45;--bad:#f0736a;--ok:#5cc08a;
--tint-bad:#3a2123;--tint-warn:#352b18;--tint-ok:#1a3126}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:980px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}
h2{font-size:18px;margin:0 0 4px}
h3{font-size:15px;margin:20px 0 2px}
p{margin:4px 0 10px}
.soft{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:16px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:16px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.tile b{display:block;font-size:23px;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span{display:block;color:var(--soft);font-size:13px}
.tile.bad b{color:var(--bad)}.tile.warn b{color:var(--warn)}
ul.attention{list-style:none;margin:10px 0 0;padding:0}
ul.attention li{border-left:4px solid var(--ok);background:var(--tint-ok);padding:8px 12px;
margin:6px 0;border-radius:0 6px 6px 0;overflow-wrap:anywhere}
ul.attention li.critical{border-color:var(--bad);background:var(--tint-bad)}
ul.attention li.warning{border-color:var(--warn);background:var(--tint-warn)}
ul.attention .hint{display:block;color:var(--soft);font-size:13px}
.mark{font-size:12px;font-weight:600;text-transform:uppercase;letter-spacing:.04em;margin-right:6px}
.critical .mark,.word-bad{color:var(--bad)}.warning .mark,.word-warn{color:var(--warn)}.ok .mark,.word-ok{color:var(--ok)}
.word-bad,.word-warn,.word-ok{font-weight:600}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin:8px 0 4px}
th{color:var(--soft);font-weight:600;text-align:left;font-size:12.5px;white-space:nowrap}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.long{overflow-wrap:anywhere;min-width:15em}
td.number,th.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td code{overflow-wrap:normal}
td.when{white-space:nowrap;font-variant-numeric:tabular-nums}
code{font:12.5px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
svg.chart{display:block;width:100%;min-width:540px;height:auto;margin:6px 0}
svg.proportion{display:block;width:100%;height:12px;margin:6px 0;border-radius:6px}
svg .good{fill:var(--good)}svg .warn{fill:var(--warn)}svg .bad{fill:var(--bad)}svg .ok{fill:var(--ok)}
svg .rest{fill:var(--grid)}
svg .slice{shape-rendering:crispEdges}
svg .grid{stroke:var(--grid);stroke-width:1}
svg .target{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:5 4}
svg .area{fill:var(--fill)}svg .line{fill:none;stroke:var(--good);stroke-width:2}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft)}
svg text.value{fill:var(--ink);font-weight:600}
.key{display:inline-block;margin-right:16px;font-size:13px;color:var(--soft)}
.key i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
.key i.area{background:var(--fill)}.key i.ok{background:var(--ok)}
.key i.good{background:var(--good)}.key i.warn{background:var(--warn)}.key i.bad{background:var(--bad)}
.key i.target{height:0;width:16px;border-top:2px dashed var(--ink);border-radius:0;vertical-align:middle}
footer{color:var(--soft);font-size:13px;margin-top:20px}
@media print{:root{--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--grid:#ddd;
--good:#3b76c4;--fill:#3b76c433;--warn:#b87a08;--bad:#b3261e;--ok:#217346;--tint-bad:#fff;--tint-warn:#fff;--tint-ok:#fff}
body{font-size:11pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}main{max-width:none;padding:0}
section,.tile{border-color:#bbb;padding:10px 12px}h2,h3{break-after:avoid}
svg,tr,li,.tile{break-inside:avoid}.scroll{overflow:visible}
svg.chart{min-width:0}}
"""
