"""A restored file as an action leaves it to be installed."""

from __future__ import annotations

from pathlib import Path

from tests.support import other


def new_file(folder: Path, *, mode: str = "delete", text: str = "new") -> Path:
    """Make a restored file as an action would: private, whole, without sidecars."""
    temp = folder / f".memory.db.{text}.restoring"
    other.sql(temp, f"PRAGMA journal_mode={mode}; CREATE TABLE t(x); INSERT INTO t VALUES ('{text}')")
    temp.chmod(0o600)
    return temp


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
