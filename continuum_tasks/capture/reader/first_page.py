"""Page 1 of a captured database as it is, for backups that are copied through SQLite.

SQLite's backup API writes counters of its own into page 1 of the copy. With the real one put back, the copy is the source
to the byte, and so is every state that commits written over it give.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.state.environment import write_file

_FILE = "first-page"
_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPage:
    """Page 1 as commit `commit` left it; no later one up to the last that was captured has changed it."""

    commit: int
    page: bytes


def write_first_page(directory: Path, first: FirstPage) -> None:
    """Keep it in the capture directory of its database. Raises NoSpace, ConfigError."""
    write_file(directory / _FILE, first.commit.to_bytes(_NUMBER_BYTES, "big") + first.page, durable=False)


def read_first_page(directory: Path) -> FirstPage | None:
    """Return it, None when there is none."""
    try:
        data = (directory / _FILE).read_bytes()
    except FileNotFoundError:
        return None
    return FirstPage(commit=int.from_bytes(data[:_NUMBER_BYTES], "big"), page=data[_NUMBER_BYTES:])
