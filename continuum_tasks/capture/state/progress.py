"""How far the capture of one database has come, durable on this host.

A segment is in the spool before the standing says so, and is shipped only after that. So what the standing does not know of
was shipped by nobody else than a second writer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.plan.continuity import LastPosition, Sighting
from continuum_tasks.capture.state.environment import write_file
from continuum_tasks.errors import ConfigError
from continuum_tasks.model import Mark, Timeline
from continuum_tasks.repository.documents import from_json, to_json

STANDING = "standing.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureProgress:
    """The newest spooled segment (`seq`), its last commit, when that was seen (microseconds since 1970), what follows from it.

    `chain` is the chain digest (hex) after it. `base_after` is the number of the last resumed commit that no backup stands
    behind yet, 0 when all have one. `source` and `stamp` tell the database file, and whether it was written since.
    `published`: the timeline's document is in the storage. `sighting` is how the files were then; `doubt` says why they are not
    to be trusted any more, empty when they are. Commit `proven_commit` was compared with the database at `proven_us`; 0 when
    none was.
    """

    storage: str
    timeline: Timeline
    seq: int
    commit: int
    observed_us: int
    chain: str
    mark: Mark
    source: str
    stamp: str
    base_after: int
    published: bool
    sighting: Sighting | None = None
    doubt: str = ""
    proven_us: int = 0
    proven_commit: int = 0

    @property
    def stood(self) -> LastPosition:
        return LastPosition(
            mark=self.mark,
            page_size=self.timeline.page_size,
            source=self.source,
            stamp=self.stamp,
            sighting=self.sighting,
            doubt=self.doubt,
        )


def load(directory: Path) -> CaptureProgress | None:
    """Read the standing, None when there is none. Raises ConfigError when it is damaged."""
    path = directory / STANDING
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        found: CaptureProgress = from_json(CaptureProgress, json.loads(text))
    except (ValueError, TypeError, KeyError) as err:
        raise ConfigError(
            f"{path}: is not a capture progress file ({err})", hint="move it away: capture then begins a new timeline"
        ) from err
    return found


def save(directory: Path, standing: CaptureProgress) -> None:
    """Make the standing durable. Raises NoSpace, ConfigError."""
    write_file(directory / STANDING, json.dumps(to_json(standing)).encode(), durable=True)


def forget_progress(directory: Path) -> None:
    """Forget the standing: the next capture begins a new timeline."""
    (directory / STANDING).unlink(missing_ok=True)
