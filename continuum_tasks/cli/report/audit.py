"""continuum backup audit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from continuum_tasks.cli.frame import output
from continuum_tasks.cli.frame.context import cli_context, configuration, shared_options
from continuum_tasks.cli.frame.parameters import time_option
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.errors import IntegrityError
from continuum_tasks.host import audit
from continuum_tasks.host.audit import AuditLine
from continuum_tasks.repository.documents import to_json

SHOWN = 10  # of the lines that are not intact: one change may break two


@click.command("audit")
@time_option("--since", "Only what was done from then on; the whole log is checked all the same.")
@shared_options
def audit_log(since: datetime | None) -> None:
    """Show who did what on this host, oldest first, and check that no line of the log was changed.

    \b
    Example:
      continuum backup audit --since 30d
    """
    path = configuration().state_dir / audit.FILE
    n_lines, shown, broken = 0, list[AuditLine](), list[AuditLine]()
    for line in audit.read_events(path):
        n_lines += 1
        if line.trouble:
            broken.append(line)
        if since is None or line.event is None or line.event.at >= since:
            shown.append(line)
    if cli_context().as_json:
        _document(shown, broken, n_lines=n_lines)
    elif n_lines == 0:
        output.remark(f"{path}: nothing was done here yet")
    else:
        _table(shown)
        output.remark(f"{path}: {n_lines} lines, {f'{len(broken)} not as written' if broken else 'none changed'}")
    for line in broken[:SHOWN]:
        output.warn(f"{path}:{line.number}: {line.trouble}")
    if len(broken) > SHOWN:
        output.warn(f"{path}: and {len(broken) - SHOWN} lines more")
    if broken:
        raise click.exceptions.Exit(IntegrityError.exit_code)


def _document(shown: Sequence[AuditLine], broken: Sequence[AuditLine], *, n_lines: int) -> None:
    output.print_document(
        {
            "events": [{**to_json(line.event), "line": line.number} for line in shown if line.event is not None],
            "n_lines": n_lines,
            "intact": not broken,
            "broken": [{"line": line.number, "trouble": line.trouble} for line in broken],
        }
    )


def _table(lines: Sequence[AuditLine]) -> None:
    # one folding column: with two an id would be cut
    columns = [TableColumn(title=title) for title in ("when", "who", "what", "outcome")]
    print_table([*columns, TableColumn(title="on", folds=True)], [_row(line) for line in lines])


def _row(line: AuditLine) -> list[str]:
    event = line.event
    if event is None:
        return ["?", "?", "?", "?", f"line {line.number}: {line.trouble}"]
    outcome = f"{event.outcome} (line {line.number}: {line.trouble})" if line.trouble else event.outcome
    on = f"{event.subject}\n{event.detail}" if event.detail else event.subject
    return [output.moment(event.at), event.user, event.action, outcome, on]
