"""The holes of one database's capture as this host knows them, for who asks without asking the storage.

The segments have them too, and for longer: these serve health checks and reports.
"""

from __future__ import annotations

import json
from pathlib import Path

from continuum_tasks.capture.state.environment import CAPTURE, write_file
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.history.timeline import Hole
from continuum_tasks.repository.documents import from_json, to_json

HOLES = "holes.json"
N_KEPT = 500


def note_hole(directory: Path, hole: Hole) -> None:
    """Add a hole to those in a database's capture directory; the oldest beyond `N_KEPT` go. Raises NoSpace, ConfigError."""
    kept = (*_read(directory / HOLES), hole)[-N_KEPT:]
    write_file(directory / HOLES, json.dumps(to_json(kept)).encode(), durable=False)


def before(standing: CaptureProgress, from_us: int, *, reason: str) -> Hole:
    """Return the hole that ends with the last commit of a standing."""
    return Hole(
        timeline=standing.timeline.id,
        commit=standing.commit,
        from_us=min(from_us, standing.observed_us),
        to_us=standing.observed_us,
        reason=reason,
    )


def read_holes(state_dir: Path, database: str) -> tuple[Hole, ...]:
    """Return the holes of a database, oldest first; none where nothing is noted, or it cannot be read."""
    return _read(state_dir / CAPTURE / database / HOLES)


def _read(path: Path) -> tuple[Hole, ...]:
    try:
        found: tuple[Hole, ...] = from_json(tuple[Hole, ...], json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return ()
    return found
