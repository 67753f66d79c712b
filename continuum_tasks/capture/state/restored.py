"""The note that a restore wrote another state into a live file: its capture then begins a new timeline.

The log goes on in such a restore, with the same salts, so nothing in it tells.
"""

from __future__ import annotations

from pathlib import Path

from continuum_tasks.capture.state.environment import write_file

_NOTE = "restored-online"


def note(directory: Path) -> None:
    """Note it in the capture directory of the database, durably, before it is done. Raises NoSpace, ConfigError."""
    write_file(directory / _NOTE, b"", durable=True)


def is_noted(directory: Path) -> bool:
    return (directory / _NOTE).exists()


def forget(directory: Path) -> None:
    """Forget it: a new timeline has begun, or nothing was written."""
    (directory / _NOTE).unlink(missing_ok=True)
