"""Find where a backup stands on the timeline that is captured while it is made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.reader import first_page
from continuum_tasks.capture.reader.wal_files import CaptureFiles
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.requests import ask_to_look
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_status
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Position, TimelineId
from continuum_tasks.sqlite.snapshot import Staged

N_LOOKS = 60  # with pauses of 0.05 to 0.2 s: some seven seconds, several capture intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The timeline that is captured and its last commit, before the copy was begun: the copy holds at least that."""

    timeline: TimelineId
    commit: int


def begin(database: DatabaseConfig, storage: str, *, site: HostContext) -> Begun | None:
    """Look before the copy is begun; None when nothing captures this very file into this storage."""
    status = read_status(site.state_dir, database.name)
    if status is None or not _captures(status, storage):
        return None
    if status.source != CaptureFiles(path=database.path.resolve()).identity():
        return None
    return Begun(timeline=TimelineId(status.timeline), commit=status.commit)


def settle(begun: Begun | None, database: DatabaseConfig, staged: Staged, *, site: HostContext) -> Position | None:
    """Wait until capture knows all that the copy can hold, and give the copy its real page 1 back.

    None when nothing was captured, or the capture ended or began anew meanwhile.
    """
    if begun is None:
        return None
    status = settled(begun.timeline, database, site=site)
    if status is None:
        return None
    _restore_first_page(begun, staged, site.state_dir / CAPTURE / database.name)
    return Position(timeline=begun.timeline, commit=begun.commit, settled=max(begun.commit, status.commit))


def settled(timeline: TimelineId, database: DatabaseConfig, *, site: HostContext) -> CaptureStatus | None:
    """Wait until capture has read all that was committed before this call; None when it does not, or began anew."""
    since_ns = site.clock.monotonic() * 1e9
    ask_to_look(site.state_dir, database.name)
    for _ in range(N_LOOKS):
        status = read_status(site.state_dir, database.name)
        if status is None or status.state is not CaptureState.RUNNING or status.timeline != timeline:
            return None
        if status.settled_monotonic_ns >= since_ns:
            return status
        site.pause(0)
    return None


def _captures(status: CaptureStatus, storage: str) -> bool:
    return status.state is CaptureState.RUNNING and status.storage == storage and status.commit > 0


def _restore_first_page(begun: Begun, staged: Staged, directory: Path) -> None:
    """Put page 1 back as the source has it; where a commit since has changed it, that one is written over it anyway."""
    first = first_page.read_first_page(directory)
    if first is None or first.commit > begun.commit or len(first.page) != staged.page_size or staged.damaged:
        return
    descriptor = os.open(staged.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, first.page, 0)
    finally:
        os.close(descriptor)
