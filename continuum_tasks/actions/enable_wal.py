"""Switch a rollback-journal database to WAL mode, so that every commit of it can be captured; audited."""

from __future__ import annotations

from continuum_tasks.actions.audited import Deed, note
from continuum_tasks.actions.site import Site
from continuum_tasks.capture.release import ask_to_look
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import ContinuumError, SourceRefused
from continuum_tasks.sqlite import journal, reserved
from continuum_tasks.sqlite.inspect import inspect


def is_enabled(database: DatabaseConfig) -> bool:
    """Tell whether the database is in WAL mode. Raises SourceMissing, or SourceRefused for one that could not be switched."""
    return inspect(database.path, accepted=database.accept_file_system).wal


def run(database: DatabaseConfig, *, by: str, site: Site) -> bool:
    """Switch to WAL mode; False when it was in it already, and nothing was done. A capture of it begins at once.

    Raises SourceMissing, SourceRefused, SourceBusy; OSError naming the audit log when that cannot be written.
    """
    source = inspect(database.path, accepted=database.accept_file_system)
    if source.wal:
        return False
    if source.reserved_bytes:
        raise SourceRefused(
            reserved.explained(source.path, source.reserved_bytes),
            hint="have the service switch it itself (PRAGMA journal_mode = wal); its commits cannot be captured either way",
        )
    deed = Deed(action="enable-wal", subject=database.name, by=by, detail=str(source.path))
    try:
        journal.enable_wal(source.path)
    except ContinuumError as err:
        note(Deed(action=deed.action, subject=deed.subject, by=by, detail=err.message), site=site, outcome=type(err).__name__)
        raise
    note(deed, site=site)
    ask_to_look(site.state_dir, database.name)
    return True
