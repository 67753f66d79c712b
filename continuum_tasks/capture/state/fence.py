"""Remember, over restarts, that another writer has taken a timeline over, until somebody decides."""

from __future__ import annotations

from pathlib import Path

from continuum_tasks.capture.state.environment import write_file

FENCE = "fenced"


def put_up(directory: Path, why: str) -> None:
    """Stop the capture of a database, whose directory this is, until the fence is taken down."""
    write_file(directory / FENCE, why.encode(), durable=True)


def is_up(directory: Path) -> bool:
    return (directory / FENCE).exists()


def fence_reason(directory: Path) -> str:
    """Return why it was put up, empty when it is not."""
    try:
        return (directory / FENCE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def take_down(directory: Path) -> None:
    """Let the capture begin again, on a timeline of its own."""
    (directory / FENCE).unlink(missing_ok=True)
