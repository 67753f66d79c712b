"""`continuum health-check` and `continuum backup health`: what is wrong, how bad it is, and what to do about it."""

from __future__ import annotations

from datetime import datetime

import click

from continuum_tasks.cli.frame import output
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.findings import Finding, rank
from continuum_tasks.health import health
from continuum_tasks.health.plan.protection import LastBackup
from continuum_tasks.tasks.health import health_document, surroundings
from continuum_tasks.units import show_seconds

_COLUMNS = (TableColumn(title="status"), TableColumn(title="what", folds=True), TableColumn(title="found", folds=True))
_CODES = """\b
Exit codes:
    0  everything is ok
    1  warning: something needs care
    2  critical: act now
  Others, as of every command, when nothing could be looked at: `continuum --help`."""


@click.command("health-check", epilog=_CODES)
@shared_options
def health_check() -> int:
    """Look at the databases as the service sees them.

    Each opens, passes SQLite's quick_check, has free space on its disk, and a recent backup. Writers are not kept waiting
    longer than busy_window_seconds.

    \b
    Example:
      continuum health-check --format json
    """
    with open_runtime_of_command() as runtime:
        report = health.run_service(surroundings(runtime))
    return _show(report)


@click.command("health", epilog=_CODES)
@shared_options
def backup_health() -> int:
    """Show how old the last usable backup of each database is, and what would prevent a restore.

    Looks at backups and their chains, storages, keys, broker, workers, failed jobs, temporary space, and at the SQLite
    that writes the databases. The target for the age is rpo_target.

    \b
    Example:
      continuum backup health | grep "Last backup"
    """
    with open_runtime_of_command() as runtime:
        report = health.check_health(surroundings(runtime))
    if not cli_context().as_json:
        for last in report.last_backups:
            output.print_text(_line(last, now=report.at))
    return _show(report)


def _show(report: health.HealthReport) -> int:
    if cli_context().as_json:
        output.print_document(health_document(report))
    else:
        worst_first = sorted(report.findings, key=lambda finding: -rank(finding.severity))
        print_table(_COLUMNS, [_row(finding) for finding in worst_first])
    return rank(report.severity)


def _line(last: LastBackup, *, now: datetime) -> str:
    if last.backup is None:
        return f"Last backup of {last.database}: none that is usable"
    backup = last.backup
    target = f"target {show_seconds(last.target_seconds)}" if last.target_seconds else "no schedule"
    state = "LATE" if last.late else "ok" if last.readable else "NOT READABLE NOW"
    since = max(0.0, (now - backup.created_at).total_seconds())
    age = f"{show_seconds(int(since))} ago, at {output.moment(backup.created_at)} UTC"
    if last.captured_until is not None:
        made = f"Last backup of {last.database}: {age}: {backup.id} in storage {backup.storage}"
        point = f"{show_seconds(last.age_seconds)} ago, at {output.moment(last.captured_until)} UTC"
        return f"{made}\nRecovery point of {last.database}: every commit up to {point} ({target}: {state})"
    return f"Last backup of {last.database}: {age}: {backup.id} in storage {backup.storage} ({target}: {state})"


def _row(finding: Finding) -> tuple[str, str, str]:
    hint = f"\n{finding.hint}" if finding.hint else ""
    return finding.severity.value, finding.subject, f"{finding.text}{hint}"
