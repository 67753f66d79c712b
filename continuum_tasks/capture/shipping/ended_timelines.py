"""What an ended timeline still has in the spool, until it is shipped too.

A restore begins a new timeline, and the storage may have been away just before it: the last commits of the old one are then on
this host alone.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.shipping.spool import Spool
from continuum_tasks.capture.state.environment import write_file
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.model import Timeline
from continuum_tasks.repository.documents import from_json, to_json

_FILE = "timeline.json"
_GIVEN_UP = "timeline.fenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTimeline:
    """An ended timeline, the storage its segments go to, and whether its document is there."""

    storage: str
    timeline: Timeline
    published: bool


def note_ended(directory: Path, ended: CaptureProgress) -> None:
    """Note that a capture has ended, for whoever ships what it leaves in the spool. Raises NoSpace, ConfigError."""
    left = EndedTimeline(storage=ended.storage, timeline=ended.timeline, published=ended.published)
    write_file(Spool(directory, ended.timeline.id).directory / _FILE, json.dumps(to_json(left)).encode(), durable=True)


def leftovers(directory: Path) -> list[EndedTimeline]:
    """Return what ended timelines have left, oldest first."""
    found: list[EndedTimeline] = []
    for path in sorted((directory / "spool").glob(f"*/{_FILE}")):
        found.append(from_json(EndedTimeline, json.loads(path.read_text(encoding="utf-8"))))
    return found


def give_up(directory: Path, left: EndedTimeline) -> None:
    """Ship what an ended timeline left no more: another host has written there. Its spool stays, for whoever wants it."""
    spool = Spool(directory, left.timeline.id).directory
    (spool / _FILE).rename(spool / _GIVEN_UP)


def remove_spool(directory: Path, left: EndedTimeline) -> None:
    """Remove the spool of a timeline that is shipped."""
    shutil.rmtree(Spool(directory, left.timeline.id).directory)
