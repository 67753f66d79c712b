"""continuum backup storage-usage."""

from __future__ import annotations

from collections.abc import Sequence

import click

from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.errors import StorageError
from continuum_tasks.report.plan.usage import Share, StorageUsage
from continuum_tasks.report.usage import measure_usage
from continuum_tasks.repository.documents import to_json
from continuum_tasks.restore.find_backup import index_unseen
from continuum_tasks.runtime import Runtime


@click.command("storage-usage")
@parameters.name_option("--storage", "Only this storage [default: all of storage.conf].")
@shared_options
def storage_usage(storage: str) -> None:
    """Show what each storage holds, by database and strategy, how fast that grows, and when the storage is full.

    The catalog answers; a storage it never saw is read first. Growth is a straight line through this host's measurements,
    or through the catalogued backups until those span a day. What expired leaves both.

    \b
    Example:
      continuum backup storage-usage --storage s3
    """
    with open_runtime_of_command() as runtime:
        settings = (runtime.config.storage(storage),) if storage else runtime.config.storages
        unread = index_storages(runtime, [each.name for each in settings])
        found = measure_usage(settings, runtime.catalog.backups(), site=runtime.site)
    for usage in found:
        if usage.trouble is not None:
            output.warn(usage.trouble.message)
    if cli_context().as_json:
        if not unread:
            output.print_document([usage_fields(usage) for usage in found])
    else:
        show_usage(found)
    if unread:
        raise unread[0]


def index_storages(runtime: Runtime, storages: Sequence[str]) -> list[StorageError]:
    """Fill the catalog from those of the storages it never saw; returns why some could not be read."""
    unread: list[StorageError] = []
    for name in storages:
        try:
            output.print_remarks(index_unseen(runtime, name))
        except StorageError as err:
            unread.append(err)
    return unread


def usage_fields(usage: StorageUsage) -> dict[str, object]:
    """Return one storage's usage as JSON fields."""
    values = to_json(usage)
    del values["points"], values["measured"], values["trouble"]
    shares = [{key: value for key, value in share.items() if key != "storage"} for share in values.pop("shares")]
    basis = "measurements" if usage.measured else "catalog"
    trouble = None if usage.trouble is None else usage.trouble.message
    return {**values, "growth_from": basis, "trouble": trouble, "shares": shares}


def show_usage(found: tuple[StorageUsage, ...]) -> None:
    """Print a table of storages, and one of what is in them."""
    columns = [
        TableColumn(title="storage", folds=True),
        *(TableColumn(title=t, right=True) for t in ("backups", "stored", "growth/day")),
    ]
    columns += [TableColumn(title="free", right=True), TableColumn(title="full")]
    print_table(columns, [_row(usage) for usage in found])
    shares = [share for usage in found for share in usage.shares]
    if shares:
        output.print_text("")
        titles = [TableColumn(title=title, folds=True) for title in ("storage", "database")]
        titles += [
            TableColumn(title="strategy"),
            *(TableColumn(title=t, right=True) for t in ("backups", "stored", "growth/day")),
        ]
        print_table(titles, [_share(share) for share in shares])


def growth(n_bytes: float | None) -> str:
    """Return growth for people; a shrinking storage has a minus sign."""
    if n_bytes is None:
        return "not known yet"
    return f"{'-' if n_bytes < 0 else '+'}{output.size(abs(n_bytes))}"


def _row(usage: StorageUsage) -> list[str]:
    free = "not known" if usage.free_bytes is None else output.size(usage.free_bytes)
    full = "not in ten years" if usage.free_bytes is not None and usage.growth_bytes_per_day is not None else "not known"
    full = full if usage.fills_at is None else f"{usage.fills_at:%Y-%m-%d}"
    n_backups, used = str(usage.n_backups), output.size(usage.used_bytes)
    return [usage.storage, n_backups, used, growth(usage.growth_bytes_per_day), free, full]


def _share(share: Share) -> list[str]:
    n_backups, stored = str(share.n_backups), output.size(share.stored_bytes)
    return [share.storage, share.database, str(share.strategy), n_backups, stored, growth(share.growth_bytes_per_day)]
