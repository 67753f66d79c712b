"""Where the state that is backed up comes from: the live database here, what capture has read of it in `from_capture`.

A source stages one committed state in a private file, says where that stands on the timeline that is captured, and lets SQLite
examine it while others compress it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from continuum_tasks.capture.reader import first_page
from continuum_tasks.capture.reader.wal_files import CaptureFiles
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.requests import ask_to_look
from continuum_tasks.capture.state.status import CaptureState, CaptureStatus, read_status
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import ProofFailed
from continuum_tasks.host.measure import timed
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import PhaseCost, Position, Progress, TimelineId
from continuum_tasks.sqlite import check
from continuum_tasks.sqlite.inspect import DatabaseSource
from continuum_tasks.sqlite.snapshot import Staged, StageLimits, stage_copy

N_LOOKS = 60  # with pauses of 0.05 to 0.2 s: some seven seconds, several capture intervals
_CHECKS = {"quick": check.quick_check_file, "full": check.integrity_check}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found. Digest and counts are empty where the copy cannot be read, or nothing was to be counted."""

    problems: tuple[str, ...]
    schema_digest: str
    row_counts: tuple[tuple[str, int], ...]
    costs: tuple[PhaseCost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupState:
    """A state to be stored. `examine` waits for what SQLite says of it, `checked` is what the manifest says of that.

    `position` is where it stands on the timeline that is captured, None when on none.
    """

    staged: Staged
    position: Position | None
    checked: str
    examine: Callable[[], Examined]
    costs: tuple[PhaseCost, ...] = ()


class StateSource(Protocol):
    """One way to a state. `note` says for people which way it is, and why."""

    @property
    def note(self) -> str: ...

    def stage(self, scratch: Path, staging: ExitStack) -> Generator[Progress, None, BackupState]:
        """Put the state into a private file under `scratch`; it is there until `staging` ends."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCaptured:
    """Why what capture has read cannot be used."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedUntil:
    """The timeline that is captured and its last commit at a look: a copy that is begun later holds at least that."""

    timeline: TimelineId
    commit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDatabase:
    """The database itself, copied by SQLite. `reason` says why nothing that capture has read is used instead."""

    source: DatabaseSource
    database: DatabaseConfig
    storage: str
    reason: str
    site: HostContext

    @property
    def note(self) -> str:
        return f"the database is copied: {self.reason}"

    def stage(self, scratch: Path, staging: ExitStack) -> Generator[Progress, None, BackupState]:
        """Copy the newest committed state. Raises SourceMissing, SourceBusy, SourceRefused, NoSpace."""
        before = look_at_capture(self.database, self.storage, site=self.site)
        limits = StageLimits(
            busy_timeout_seconds=self.database.busy_timeout_seconds, busy_window_seconds=self.database.busy_window_seconds
        )
        begun = self.site.clock.monotonic()
        staged = staging.enter_context(stage_copy(self.source, scratch, limits=limits, clock=self.site.clock))
        seconds = self.site.clock.monotonic() - begun
        position = before if isinstance(before, NotCaptured) else _settle(before, self.database, staged, site=self.site)
        if isinstance(position, NotCaptured):
            yield Progress(phase="stage", note=f"the copy stands on no timeline: {position.reason}")
        return BackupState(
            staged=staged,
            position=None if isinstance(position, NotCaptured) else position,
            checked=str(self.database.check),
            examine=staging.enter_context(examining(staged, self.database, monotonic=self.site.clock.monotonic)).result,
            costs=(PhaseCost(phase="stage", seconds=seconds, n_bytes=staged.n_pages * staged.page_size),),
        )


@contextmanager
def examining(staged: Staged, database: DatabaseConfig, *, monotonic: Callable[[], float]) -> Iterator[Future[Examined]]:
    """Examine in a thread of its own: SQLite walks its trees without the GIL."""
    with ThreadPoolExecutor(1, thread_name_prefix="check") as pool:
        yield pool.submit(_examine, staged, database, monotonic)


def _examine(staged: Staged, database: DatabaseConfig, monotonic: Callable[[], float]) -> Examined:
    """Tell whether a whole copy is sound, what tables it has and how many rows they have."""
    costs: list[PhaseCost] = []
    size_bytes = staged.n_pages * staged.page_size
    look = _CHECKS.get(database.check)
    with timed("check", costs, n_bytes=size_bytes if look else 0, monotonic=monotonic):
        problems = look(staged.path) if look else ()
    with timed("count", costs, n_bytes=size_bytes if database.count_rows else 0, monotonic=monotonic):
        try:
            digest = check.schema_digest(staged.path)
            counts = check.row_counts_file(staged.path) if database.count_rows else ()
        except ProofFailed as err:
            # quick_check has said it already, or was not asked for: then this is how the damage becomes known
            problems, digest, counts = problems or (f"rows cannot be counted: {err.message}",), "", ()
    return Examined(problems=problems, schema_digest=digest, row_counts=counts, costs=tuple(costs))


def look_at_capture(database: DatabaseConfig, storage: str, *, site: HostContext) -> CapturedUntil | NotCaptured:
    """Look which timeline of this very file is captured into this storage, and up to which commit."""
    status = read_status(site.state_dir, database.name)
    if status is None:
        return NotCaptured(reason="its commits are not captured")
    if status.state is not CaptureState.RUNNING:
        return NotCaptured(reason=f"its commits are not captured now ({status.state})")
    if status.storage != storage:
        return NotCaptured(reason=f"its commits are captured into storage {status.storage}")
    if status.commit < 1:
        return NotCaptured(reason="no commit was captured yet")
    if status.source != CaptureFiles(path=database.path.resolve()).identity():
        return NotCaptured(reason="its capture follows another file of that name")
    return CapturedUntil(timeline=TimelineId(status.timeline), commit=status.commit)


def settled(timeline: TimelineId, database: DatabaseConfig, *, site: HostContext) -> CaptureStatus | NotCaptured:
    """Wait until capture has read all that was committed before this call; tells why when it does not."""
    since_ns = site.clock.monotonic() * 1e9
    ask_to_look(site.state_dir, database.name)
    for _ in range(N_LOOKS):
        status = read_status(site.state_dir, database.name)
        if status is None or status.state is not CaptureState.RUNNING:
            return NotCaptured(reason="its capture ended meanwhile")
        if status.timeline != timeline:
            return NotCaptured(reason=f"its capture began timeline {status.timeline} meanwhile")
        if status.settled_monotonic_ns >= since_ns:
            return status
        site.pause(0)
    return NotCaptured(reason=f"its capture did not look at the database in {N_LOOKS} tries")


def _settle(before: CapturedUntil, database: DatabaseConfig, staged: Staged, *, site: HostContext) -> Position | NotCaptured:
    """Wait until capture knows all that the copy can hold, and give the copy its real page 1 back."""
    status = settled(before.timeline, database, site=site)
    if isinstance(status, NotCaptured):
        return status
    _restore_first_page(before, staged, site.state_dir / CAPTURE / database.name)
    return Position(timeline=before.timeline, commit=before.commit, settled=max(before.commit, status.commit))


def _restore_first_page(before: CapturedUntil, staged: Staged, directory: Path) -> None:
    """Put page 1 back as the source has it; where a commit since has changed it, that one is written over it anyway."""
    first = first_page.read_first_page(directory)
    if first is None or first.commit > before.commit or len(first.page) != staged.page_size or staged.damaged:
        return
    descriptor = os.open(staged.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, first.page, 0)
    finally:
        os.close(descriptor)
