"""The sections of the page, one function each: from a report's values to markup. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

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
from continuum_tasks.report.plan import summary
from continuum_tasks.report.plan.report import DatabaseReport, FailedRun, Period, PeriodReport, PeriodSlice
from continuum_tasks.report.plan.usage import StorageUsage

NUMBER, WHEN, LONG = "number", "when", "long"


def backups(report: PeriodReport) -> Html:
    """Backups made and failed, over time and per database."""
    title = svg.Title(
        key="made",
        name="Backups made and failed over the period",
        summary=f"{report.n_made} made, {len(report.suspects)} of them suspect, {report.n_failed} failed.",
    )
    drawn = svg.stacks(title, [_bar(bar) for bar in report.bars], period=axis(report.period))
    chart = [drawn, keys([("good", "made"), ("warn", "suspect"), ("bad", "failed")])] if report.n_made + report.n_failed else []
    columns = [
        HtmlColumn(title="database"),
        *(HtmlColumn(title=name, kind=NUMBER) for name in ("made", "failed", "suspect", "stored", "median time")),
        HtmlColumn(title="of these"),
    ]
    rows = [
        [
            database.name,
            f"{database.n_made:,}",
            word("bad", str(database.n_failed)) if database.n_failed else "0",
            word("warn", str(database.n_suspect)) if database.n_suspect else "0",
            size_text(database.stored_bytes),
            seconds_text(database.median_seconds),
            ", ".join(f"{n:,} {strategy}" for strategy, n in database.by_strategy) or UNKNOWN,
        ]
        for database in report.databases
    ]
    return section(
        "backups",
        "Backups made and failed",
        paragraph(f"{count(report.n_made, 'backup')} made, {report.n_failed} failed, {size_text(report.stored_bytes)} stored."),
        *chart,
        html_table(columns, rows),
        _failures(report),
    )


def exposure_section(report: PeriodReport) -> Html:
    """The recovery point's age over time and its gaps, per database."""
    words = (
        "How much would have been lost if the database had been restored at that moment: the age of the newest usable backup, "
        "or of the last captured commit that was in the storage. The chart shows"
        " the greatest value in each slice of time, on a logarithmic scale."
    )
    return section(
        "rpo",
        "Recovery point (RPO)",
        paragraph(words),
        *(_exposed(d, n, report.period) for n, d in enumerate(report.databases)),
    )


def drills(report: PeriodReport) -> Html:
    """What test restores took, with the trend."""
    found = report.drills
    if not found.history:
        none = paragraph("No drill has been made: ", code_text("continuum backup drill"), " makes one.")
        return section("drills", "Drills (RTO)", none)
    trend = "too few to tell a trend"
    if found.change is not None:
        trend = (
            "steady"
            if abs(found.change) < 0.1
            else f"{100 * abs(found.change):.0f} % {'slower' if found.change > 0 else 'faster'}"
        )
        trend = f"the later half of them against the earlier half: {trend}"
    words = f"{count(len(found.in_period), 'drill')} in this period, {found.n_failed} failed."
    words = f"{words} The last {len(found.history)}: {trend}."
    title = svg.Title(key="rto", name="Time each drill took until the database was proven and ready", summary=words)
    bars = [("good" if drill.passed else "bad", drill.rto_seconds, seconds_text(drill.rto_seconds)) for drill in found.history]
    notes = [f"{moment_text(d.at)}: {d.backup_id}, {'passed' if d.passed else 'failed'}" for d in found.history]
    labels = [f"{drill.at.day} {drill.at:%b}" for drill in found.history]
    rows = [
        [
            moment_text(drill.at),
            code_text(drill.backup_id),
            word("ok", "passed") if drill.passed else word("bad", "failed"),
            seconds_text(drill.rto_seconds),
            ", ".join(f"{cost.phase} {seconds_text(cost.seconds)}" for cost in drill.phases) or UNKNOWN,
            "; ".join(drill.findings),
        ]
        for drill in reversed(found.history)
    ]
    columns = [
        *(HtmlColumn(title="at (UTC)", kind=WHEN), HtmlColumn(title="backup"), HtmlColumn(title="result")),
        *(HtmlColumn(title="RTO", kind=NUMBER), HtmlColumn(title="phases"), HtmlColumn(title="found", kind=LONG)),
    ]
    return section(
        "drills",
        "Drills (RTO)",
        paragraph(words),
        svg.columns(title, bars, labels=labels, notes=notes),
        keys([("good", "passed"), ("bad", "failed")]),
        html_table(columns, rows),
    )


def verification(report: PeriodReport) -> Html:
    """How much of what could be restored was proven."""
    words = "A verified backup was restored from its storage to a scratch file, page by page, and checked by SQLite."
    columns = [
        HtmlColumn(title="database"),
        *(HtmlColumn(title=name, kind=NUMBER) for name in ("recovery points", "verified", "chains proven", "passed", "failed")),
        HtmlColumn(title="last verified (UTC)", kind=WHEN),
    ]
    rows, bars = [], []
    for number, database in enumerate(report.databases):
        found = database.coverage
        bars += [tag("h3", None, database.name), _chains(database, number)]
        last = UNKNOWN if found.last_verified_at is None else moment_text(found.last_verified_at)
        failed = word("bad", str(found.n_failed)) if found.n_failed else "0"
        proven = f"{found.n_chains_proven} of {found.n_chains}"
        rows.append([database.name, f"{found.n_points:,}", f"{found.n_verified:,}", proven, str(found.n_passed), failed, last])
    bad = [
        [
            moment_text(v.attestation.at),
            code_text(v.attestation.backup_id),
            str(v.attestation.level),
            "; ".join(v.attestation.findings),
        ]
        for v in report.bad_verdicts
    ]
    titles = [
        HtmlColumn(title="at (UTC)", kind=WHEN),
        HtmlColumn(title="backup"),
        HtmlColumn(title="level"),
        HtmlColumn(title="found", kind=LONG),
    ]
    failures = [tag("h3", None, "Failed verifications"), html_table(titles, bad)] if bad else []
    return section("verification", "Verification", paragraph(words), *bars, html_table(columns, rows), *failures)


def storage_section(report: PeriodReport) -> Html:
    """What storages hold, how fast they grow, when they fill."""
    return section("storage", "Storage", *(_storage(s, number, report.period) for number, s in enumerate(report.storages)))


def retention(report: PeriodReport) -> Html:
    """What was decided about what stays."""
    if not report.decisions:
        return section("retention", "Retention", paragraph("Nothing expired, was held or released in this period."))
    done = Counter(decision.action for decision in report.decisions)
    words = ", ".join(f"{action} {n}" for action, n in sorted(done.items()))
    columns = [
        *(HtmlColumn(title="at (UTC)", kind=WHEN), HtmlColumn(title="action"), HtmlColumn(title="what")),
        *(HtmlColumn(title="outcome"), HtmlColumn(title="why", kind=LONG)),
    ]
    found = [(group, group.last) for group in summary.decided(report.decisions)]
    rows = [[moment_text(d.at), d.action, code_text(group.subject), d.outcome, d.detail] for group, d in found]
    return section(
        "retention",
        "Retention",
        paragraph(f"{count(len(report.decisions), 'decision')}: {words}."),
        html_table(columns, rows, more=join([": ", code_text("continuum backup audit --since 30d")])),
    )


def anomalies(report: PeriodReport) -> Html:
    """Backups that are suspect, and why."""
    if not report.suspects:
        return section("anomalies", "Anomalies and suspects", paragraph("None of the period's backups is suspect."))
    columns = [
        *(HtmlColumn(title="since (UTC)", kind=WHEN), HtmlColumn(title="database")),
        *(HtmlColumn(title="backup"), HtmlColumn(title="why it is suspect", kind=LONG)),
    ]
    rows = [
        [moment_text(group.since), group.last.database, code_text(group.subject), "; ".join(group.last.suspect_reasons)]
        for group in summary.suspected(report.suspects)
    ]
    return section("anomalies", "Anomalies and suspects", html_table(columns, rows))


def _bar(bar: PeriodSlice) -> svg.Stack:
    note = f"from {moment_text(bar.begins_at)} UTC: {bar.n_made} made, {bar.n_suspect} of them suspect, {bar.n_failed} failed"
    parts = (("good", float(bar.n_made - bar.n_suspect)), ("warn", float(bar.n_suspect)), ("bad", float(bar.n_failed)))
    return svg.Stack(parts=parts, note=note)


def _failures(report: PeriodReport) -> Html:
    """List what failed once per message, the most frequent first: a storage that is away fails every few minutes."""
    if not report.failed:
        return join([])
    alike = groupby(sorted(report.failed, key=_same_failure), key=_same_failure)
    groups = sorted(([*found] for _, found in alike), key=len, reverse=True)
    rows = [
        [f"{len(g):,}", moment_text(max(f.at for f in g)), g[0].kind, g[0].database, f"{g[0].error}: {g[0].message}"]
        for g in groups
    ]
    columns = [HtmlColumn(title="times", kind=NUMBER), HtmlColumn(title="last at (UTC)", kind=WHEN)]
    columns += [HtmlColumn(title="job"), HtmlColumn(title="database"), HtmlColumn(title="error", kind=LONG)]
    return join(
        [
            tag("h3", None, "Failed"),
            html_table(columns, rows, more=join([": ", code_text("continuum backup list --status failed")])),
        ]
    )


def _same_failure(failed: FailedRun) -> tuple[str, str, str, str]:
    return failed.kind, failed.database, failed.error, failed.message


def _exposed(database: DatabaseReport, number: int, period: Period) -> Html:
    found = database.exposure
    ages = [f"worst {seconds_text(found.worst_seconds)}", f"now {seconds_text(found.last_seconds)}"]
    parts = [
        *(ages if found.last_seconds is not None else ["no recovery point"]),
        f"target {seconds_text(found.target_seconds)}" if found.target_seconds else "no schedule, so no target",
        f"{count(len(found.gaps), 'gap')}, {seconds_text(found.over_seconds)} over the target" if found.gaps else "no gaps",
    ]
    title = svg.Title(key=f"rpo-{number}", name=f"Age of the recovery point of {database.name}", summary=", ".join(parts))
    width = (period.until - period.since) / period.n_slices
    notes = [
        f"from {moment_text(period.since + i * width)} UTC: at most {seconds_text(age)}" for i, age in enumerate(found.ages)
    ]
    chart = svg.age_chart(title, found.ages, target=found.target_seconds, period=axis(period), notes=notes)
    worst = sorted(found.gaps, key=lambda gap: gap.until - gap.begins_at, reverse=True)
    rows = [
        [
            moment_text(gap.begins_at),
            word("bad", "still open") if gap.open else moment_text(gap.until),
            seconds_text((gap.until - gap.begins_at).total_seconds()),
            seconds_text(gap.age_seconds),
        ]
        for gap in worst
    ]
    columns = [HtmlColumn(title="over the target from (UTC)", kind=WHEN), HtmlColumn(title="until", kind=WHEN)]
    columns += [HtmlColumn(title="for", kind=NUMBER), HtmlColumn(title="greatest age", kind=NUMBER)]
    gaps = [html_table(columns, rows, more=", shorter ones")] if rows else []
    shown = [chart, keys([("good", "within the target"), ("bad", "over the target"), ("target", "target")])]
    return join(
        [tag("h3", None, database.name), paragraph(", ".join(parts) + "."), *(shown if _any(found.ages) else []), *gaps]
    )


def _any(values: Sequence[float | None]) -> bool:
    return any(value is not None for value in values)


def _chains(database: DatabaseReport, number: int) -> Html:
    found = database.coverage
    words = f"{found.n_chains_proven} of {count(found.n_chains, 'chain')} with a verified backup"
    title = svg.Title(key=f"verified-{number}", name=f"Chains of {database.name} that were proven", summary=words)
    open_chains = found.n_chains - found.n_chains_proven
    parts = [
        ("ok", float(found.n_chains_proven), "proven"),
        ("rest", float(open_chains) if found.n_chains else 1.0, "not proven"),
    ]
    return join([svg.proportion(title, parts), paragraph(f"{words}.")])


def _storage(usage: StorageUsage, number: int, period: Period) -> Html:
    growth = usage.growth_bytes_per_day
    parts = [
        f"{size_text(usage.used_bytes)} in {count(usage.n_backups, 'backup')}",
        "growth not known yet (less than a day of history)" if growth is None else f"growing {size_text(growth)} a day",
        f"{size_text(usage.free_bytes)} free" if usage.free_bytes is not None else "free space not known",
    ]
    if usage.fills_at is not None:
        parts.append(f"full about {moment_text(usage.fills_at)[:10]}")
    words = ", ".join(parts)
    title = svg.Title(key=f"level-{number}", name=f"Bytes stored in {usage.storage}", summary=words)
    points = [(point.at, point.n_bytes) for point in usage.points]
    columns = [HtmlColumn(title="database"), HtmlColumn(title="strategy")]
    columns += [HtmlColumn(title=name, kind=NUMBER) for name in ("backups", "stored", "growth a day")]
    rows = [
        [
            share.database,
            str(share.strategy),
            f"{share.n_backups:,}",
            size_text(share.stored_bytes),
            size_text(share.growth_bytes_per_day),
        ]
        for share in usage.shares
    ]
    trouble = [tag("p", {"class": "word-bad"}, usage.trouble.message)] if usage.trouble is not None else []
    chart = [svg.level(title, points, period=axis(period))] if points else []
    return join(
        [
            tag("h3", None, usage.storage),
            *trouble,
            paragraph(f"{words}."),
            *chart,
            *([html_table(columns, rows)] if rows else []),
        ]
    )
