"""continuum backup forensics-copy."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from continuum_tasks.cli.frame import dispatch, output, parameters
from continuum_tasks.cli.frame.context import cli_context, configuration, shared_options
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.config import Config
from continuum_tasks.errors import UsageError
from continuum_tasks.host import audit
from continuum_tasks.host.audit_trail import AuditEntry, record_entry, user
from continuum_tasks.restore.forensics_copy import ForensicsCopy, ForensicsRequest, copy_for_forensics


@click.command("forensics-copy")
@click.option("--database", metavar="NAME|PATH", default="", help="A declared one, or any file [default: the default one].")
@click.option(
    "--to", type=parameters.path_value, metavar="DIR", default=None, help="Where to [default: forensics in state_dir]."
)
@shared_options
def forensics_copy(database: str, to: Path | None) -> None:
    """Copy a database with its -wal, -shm and -journal, byte by byte, and never change it.

    Any file is copied, also one that is no database any more. `continuum backup forensics-copy --database /srv/memory.db`
    """
    settings = configuration()
    now = datetime.now(UTC)
    request = ForensicsRequest(
        source=_source(settings, database),
        to=to or settings.state_dir / "forensics",
        now=now,
        host=settings.host,
        user=user(),
    )
    done: ForensicsCopy = dispatch.run_locally(copy_for_forensics(request), title=f"copy of {request.source.name}")
    deed = AuditEntry(action="forensics-copy", subject=done.source, by=request.user, detail=done.directory)
    try:
        record_entry(deed, state_dir=settings.state_dir, host=request.host, at=now)
    except OSError as err:  # the copy is made: that counts
        output.warn(f"{settings.state_dir / audit.FILE}: not written ({err.strerror})")
    _show(done)


def _source(settings: Config, text: str) -> Path:
    if not text:
        return settings.database("").path
    named = [database.path for database in settings.databases if database.name == text]
    if named:
        return named[0]
    if "/" not in text and not Path(text).exists() and parameters.is_name(text):
        names = ", ".join(database.name for database in settings.databases)
        raise UsageError(f"{text!r}: neither a declared database nor a file here", hint=f"declared: {names}")
    return parameters.file(text)


def _show(done: ForensicsCopy) -> None:
    for text in done.remarks:
        output.warn(text)
    if cli_context().as_json:
        output.print_document(
            {
                "directory": done.directory,
                "source": done.source,
                "files": [
                    {"name": one.name, "size_bytes": one.size_bytes, "sha256": one.sha256, "unreadable": list(one.unreadable)}
                    for one in done.files
                ],
                "in_use_by": list(done.in_use_by),
                "remarks": list(done.remarks),
            }
        )
        return
    columns = [
        TableColumn(title="file", folds=True),
        TableColumn(title="size", right=True),
        TableColumn(title="sha-256", folds=True),
    ]
    print_table(columns, [[one.name, output.size(one.size_bytes), one.sha256] for one in done.files])
    output.print_text(f"\ncopied to {done.directory}")
