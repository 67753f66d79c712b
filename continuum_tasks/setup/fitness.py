"""Say of a declared database what would keep it from being backed up."""

from __future__ import annotations

from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import SourceMissing, SourceRefused
from continuum_tasks.sqlite.inspect import inspect


def warnings(database: DatabaseConfig) -> tuple[str, ...]:
    """Return why its backups will be refused, and what is not known of the place it lies in; empty when nothing is wrong."""
    try:
        source = inspect(database.path, accepted=database.accept_file_system)
    except SourceMissing as err:
        return (f"database {err.message}; {err.hint}",)
    except SourceRefused as err:
        if not database.path.stat().st_size:  # its service creates it later
            return ()
        return (f"database {err.message}; backups of it are refused: {err.hint}",)
    return (f"database {source.remark}",) if source.remark else ()
