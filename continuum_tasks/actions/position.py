"""Find where a backup stands on the timeline that is captured while it is made."""

from __future__ import annotations

from dataclasses import dataclass

from continuum_tasks.actions.site import Site
from continuum_tasks.capture.release import ask_to_look
from continuum_tasks.capture.status import State, Status, read_status
from continuum_tasks.capture.walfile import Source
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.model import Position, TimelineId

N_LOOKS = 60  # with pauses of 0.05 to 0.2 s: some seven seconds, several capture intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The timeline that is captured and its last commit, before the copy was begun: the copy holds at least that."""

    timeline: str
    commit: int


def begin(database: DatabaseConfig, storage: str, *, site: Site) -> Begun | None:
    """Look before the copy is begun; None when nothing captures this very file into this storage."""
    status = read_status(site.state_dir, database.name)
    if status is None or not _captures(status, storage):
        return None
    if status.source != Source(path=database.path.resolve()).identity():
        return None
    return Begun(timeline=status.timeline, commit=status.commit)


def settle(begun: Begun | None, database: DatabaseConfig, *, copied_at: float, site: Site) -> Position | None:
    """Wait until capture knows all that the copy, complete at `copied_at` (monotonic seconds), can hold.

    None when nothing was captured, or the capture ended or began anew meanwhile.
    """
    if begun is None:
        return None
    ask_to_look(site.state_dir, database.name)
    for _ in range(N_LOOKS):
        status = read_status(site.state_dir, database.name)
        if status is None or not status.protects or status.timeline != begun.timeline:
            return None
        if status.settled_monotonic_ns >= copied_at * 1e9:
            return Position(timeline=TimelineId(begun.timeline), commit=begun.commit, settled=max(begun.commit, status.commit))
        site.pause(0)
    return None


def _captures(status: Status, storage: str) -> bool:
    return status.state is State.RUNNING and status.storage == storage and status.commit > 0
