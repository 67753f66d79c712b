"""Tables for people: 100 columns wide unless ids need more, nothing in them that a terminal would obey, ids never cut."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from continuum_tasks.assembly.commit_log import CommitView
from continuum_tasks.cli.frame.output import duration, moment, out, printable, size
from continuum_tasks.model import Attestation, Backup
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.find_commits import commit_moment

MAX_WIDTH = 100
_FOLDED = 20  # the least a column that folds is left with
_STYLES = {"no": "yellow", "failed": "bold red", "suspect": "bold red", "yes": "green"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    """`right`: numbers, aligned right. `folds`: may wrap when the line is too long; others never do, the line grows."""

    title: str
    right: bool = False
    folds: bool = False


def print_table(columns: Sequence[TableColumn], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on standard output."""
    found = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        justify = "right" if column.right else "left"
        found.add_column(column.title.upper(), justify=justify, no_wrap=not column.folds, overflow="fold")  # type: ignore[arg-type]
    cells = [[_cell(text) for text in row] for row in rows]
    for row_cells in cells:
        found.add_row(*row_cells)
    _print(found, least=_least_width(columns, cells))


def print_facts(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, show_header=False)
    found.add_column(no_wrap=True)
    found.add_column(overflow="fold")
    for name, value in rows:
        found.add_row(Text(name, style="bold"), _cell(value))
    _print(found)


def _cell(text: str) -> Text:
    return Text(printable(text), style=_STYLES.get(text, ""))


def _least_width(columns: Sequence[TableColumn], cells: Sequence[Sequence[Text]]) -> int:
    """Return the width below which something would be cut that may not be."""
    widest = [max((row[n].cell_len for row in cells), default=0) for n in range(len(columns))]
    wanted = (max(cell_len(column.title), most) for column, most in zip(columns, widest, strict=True))
    return sum(2 + (min(most, _FOLDED) if column.folds else most) for column, most in zip(columns, wanted, strict=True))


def _print(found: Table, *, least: int = 0) -> None:
    # An id broken in two can be neither copied nor cut out by a script: a line that is too long is the smaller harm.
    terminal = sys.stdout.isatty()
    width = max(least, min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 25)).columns) if terminal else MAX_WIDTH)
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=terminal, markup=False, highlight=False, emoji=False)
    console.print(found)
    out("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()))


_FIRST = ("strategy", "status")


def backup_fields(backup: Backup) -> dict[str, Any]:
    """Return the JSON fields of a backup: its own, with its id as `backup_id`, and what follows from them."""
    values = to_json(backup)
    named = {"backup_id": values.pop("id"), **{name: values.pop(name) for name in _FIRST}}
    return {**named, "verified": backup.verified, "compression_ratio": backup.compression_ratio, **values}


def verdict_fields(verdict: Attestation) -> dict[str, Any]:
    """Return the JSON fields of a verdict; row counts as an object of table and rows."""
    return {**to_json(verdict), "row_counts": dict(verdict.row_counts)}


def verified_word(backup: Backup) -> str:
    """Return `yes`, `no` or, when the newest verdict is bad, `failed`."""
    if backup.verified:
        return "yes"
    return "no" if backup.failed_at is None else "failed"


def backup_facts(backup: Backup) -> list[tuple[str, str]]:
    """Return what people want to know of a backup, in order."""
    cipher = f"{backup.cipher}, key {backup.key_id}" if backup.key_id else str(backup.cipher)
    reasons = [("suspect because", reason) for reason in backup.suspect_reasons]
    return [
        ("backup", backup.id),
        ("database", f"{backup.database}, on {backup.host}"),
        ("storage", backup.storage),
        ("strategy", f"{backup.strategy}, builds on {backup.parent_id}" if backup.parent_id else str(backup.strategy)),
        ("status", str(backup.status)),
        *reasons,
        ("verified", verified_word(backup)),
        ("created", f"{moment(backup.created_at)} UTC, finished {moment(backup.finished_at)}"),
        ("database size", f"{size(backup.original_size_bytes)}: {backup.n_pages} pages of {backup.page_size} bytes"),
        ("stored size", f"{size(backup.stored_size_bytes)} for {size(backup.layer_size_bytes)} of pages, {backup.codec}"),
        ("encryption", cipher),
    ]


def commit_facts(seen: CommitView, base: Backup, *, what: str = "restored") -> list[tuple[str, str]]:
    """Return what people want to know of a restored commit."""
    how = "found then, after a hole" if seen.resumed else f"made at most {duration(seen.uncertainty_seconds)} before"
    return [
        (what, f"commit {seen.number} of {seen.timeline}"),
        ("observed", f"{commit_moment(seen)} UTC, {how}"),
        ("from", f"{base.id} and the commits after it"),
    ]


def commit_fields(seen: CommitView) -> dict[str, Any]:
    """Return a commit as it stands in JSON output."""
    found: dict[str, Any] = to_json(seen)
    return found
