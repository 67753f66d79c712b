"""What `restore --dry-run` shows: the plan, what would stop it, and what would be lost."""

from __future__ import annotations

from pathlib import Path

from continuum_tasks.cli.frame import output
from continuum_tasks.cli.frame.context import cli_context
from continuum_tasks.cli.frame.table import TableColumn, commit_facts, print_facts, print_table
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.install.quarantine import quarantines
from continuum_tasks.restore.preview import Losses, Preview
from continuum_tasks.restore.rows.losses import Loss

SHOWN_LAYERS = 20


def show_plan(preview: Preview) -> None:
    """Show a plan; what would stop it is warned of, and is no failure of the dry run."""
    for text in preview.refused:
        output.warn(f"the restore would be refused now: {text}")
    if cli_context().as_json:
        output.print_document(_fields(preview))
        return
    estimate = preview.estimate
    rate = f"{output.size(estimate.bytes_per_second)}/s"
    from_where = f"measured in {estimate.n_measured} restores" if estimate.n_measured else "assumed: none was measured here"
    free = "no such directory" if preview.free_bytes is None else f"{output.size(preview.free_bytes)} free"
    print_facts(
        [
            *_what(preview),
            ("target", f"{preview.target} ({_how(preview)})"),
            ("reads", f"at most {output.size(preview.fetch_bytes)} in {_n_objects(preview)} objects{_segments(preview)}"),
            ("time", f"about {output.duration(estimate.seconds)} at {rate} ({from_where})"),
            ("space", f"{output.size(preview.space_bytes)} needed, {free}"),
            *_online(preview),
        ]
    )
    output.print_text("")
    columns = [TableColumn(title="layer"), TableColumn(title="objects", right=True), TableColumn(title="stored", right=True)]
    shown = preview.layers[-SHOWN_LAYERS:]
    if len(preview.layers) > len(shown):
        output.print_text(f"{len(preview.layers)} layers, the last {len(shown)}:")
    print_table(columns, [[layer.backup_id, str(layer.n_objects), output.size(layer.stored_bytes)] for layer in shown])
    output.print_text("")
    _show_losses(preview)


def show_quarantines(target: Path) -> None:
    """List the replaced files kept beside a target, newest first; the first is what `--undo` puts back."""
    found = quarantines(target)
    if cli_context().as_json:
        fields = [{"path": str(q.path), "at": q.at.isoformat(), "size_bytes": q.size_bytes} for q in found]
        output.print_document({"target": str(target), "quarantines": fields})
        return
    if not found:
        output.print_text(f"{target}: no replaced file is kept beside it")
        return
    columns = [
        TableColumn(title="kept since (utc)"),
        TableColumn(title="size", right=True),
        TableColumn(title="where", folds=True),
    ]
    print_table(columns, [[output.moment(q.at), output.size(q.size_bytes), str(q.path)] for q in found])
    output.print_text(f"\n--undo puts back the first; delete those you need no more: rm -r {found[-1].path}")


def _fields(preview: Preview) -> dict[str, object]:
    fields = to_json(preview)
    backup = fields.pop("backup")
    return {
        "backup_id": backup["id"],
        "database": backup["database"],
        "storage": backup["storage"],
        "created_at": backup["created_at"],
        **fields,
    }


def _what(preview: Preview) -> list[tuple[str, str]]:
    backup = preview.backup
    if preview.commit is not None:
        return commit_facts(preview.commit, backup, what="would restore")
    when = f"{output.moment(backup.created_at)} UTC"
    return [("would restore", f"{backup.id}, from storage {backup.storage}"), ("state of", when)]


def _how(preview: Preview) -> str:
    if preview.online is not None:
        return "written into while its service keeps running"
    return "replaces a file" if preview.replaces else "new"


def _online(preview: Preview) -> list[tuple[str, str]]:
    plan = preview.online
    if plan is None:
        return []
    log = "-wal" if plan.wal else "-journal"
    window = f"the busy window is {output.duration(plan.busy_window_seconds)}"
    return [
        ("pages that differ", f"{plan.n_pages_differ} of {plan.n_pages} (the live database has {plan.n_pages_now})"),
        (
            f"{log} needed",
            f"{output.size(plan.log_bytes)}; {output.size(plan.space_bytes)} with what is kept of the replaced state",
        ),
        ("writers wait", f"about {output.duration(plan.lock_seconds)} ({plan.how_estimated}); {window}"),
    ]


def _segments(preview: Preview) -> str:
    return f", {preview.n_segments} of them segments ({output.size(preview.segment_bytes)})" if preview.commit else ""


def _n_objects(preview: Preview) -> int:
    return sum(layer.n_objects for layer in preview.layers) + preview.n_segments


def _show_losses(preview: Preview) -> None:
    losses = preview.losses
    if not preview.replaces:
        output.print_text("nothing would be lost: there is no file at the target")
    elif losses.unknown:
        output.print_text(f"what would be lost is not known: {losses.unknown}")
    else:
        _show_tables(losses)


def _show_tables(losses: Losses) -> None:
    differing = [loss for loss in losses.tables if loss.lost or loss.changed or loss.now != loss.restored]
    least = "" if losses.exact else "at least "
    if differing:
        columns = [
            TableColumn(title="table", folds=True),
            *(TableColumn(title=t, right=True) for t in ("now", "restored", "lost")),
        ]
        if losses.exact:
            columns.append(TableColumn(title="set back", right=True))
        print_table(columns, [_row(loss, exact=losses.exact) for loss in differing])
        output.print_text("")
    n_lost = sum(loss.lost for loss in losses.tables)
    set_back = sum(loss.changed or 0 for loss in losses.tables)
    also = f", {set_back} set back to older content" if losses.exact else " (counts only; --exact compares the rows)"
    output.print_text(f"{least}{n_lost} rows would be lost{also}")


def _row(loss: Loss, *, exact: bool) -> list[str]:
    restored = "no table" if loss.restored is None else str(loss.restored)
    return [loss.table, str(loss.now), restored, str(loss.lost), *([str(loss.changed)] if exact else [])]
