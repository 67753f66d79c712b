"""Make a backup from what capture has read, instead of reading the database.

There are two such states. One is the copy of the state that a timeline, or what follows a hole, begins with: any backup can be
made of it. The other, for an increment, is the state after the newest commit: the pages of the commits since the parent, newest
first, are all that changed, and with the parent's page digests they give the digests of the whole state.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import apsw

from continuum_tasks.assembly.fetch import EXPECTED
from continuum_tasks.assembly.replay import Replay, prepare_replay, replay
from continuum_tasks.backup.choose_parent import BackupRequest, ParentChoice
from continuum_tasks.backup.state_source import (
    N_LOOKS,
    BackupState,
    CapturedUntil,
    Examined,
    NotCaptured,
    examining,
    look_at_capture,
    settled,
)
from continuum_tasks.capture.pins import base_copy
from continuum_tasks.capture.state import progress
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.status import CaptureStatus
from continuum_tasks.config import DatabaseConfig
from continuum_tasks.errors import BackupNotFound, IntegrityError, ObjectMissing, SourceError
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import CommitRef, Position, Progress, Strategy
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite import live
from continuum_tasks.sqlite.snapshot import Staged


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedCopy:
    """The copy of a whole state that capture keeps until a backup is made of it."""

    copy: base_copy.Base
    database: DatabaseConfig
    site: HostContext

    @property
    def note(self) -> str:
        return f"the state at commit {self.copy.commit}, as capture has copied it"

    def stage(self, scratch: Path, staging: ExitStack) -> Generator[Progress, None, BackupState]:
        """Have it examined where it lies; it is private already."""
        copy = self.copy
        staged = Staged(
            path=Path(copy.path),
            page_size=copy.page_size,
            n_pages=copy.n_pages,
            taken_at=_instant(copy.observed_us),
            journal_mode="wal",
            sqlite_version=apsw.sqlite_lib_version(),
            damaged=(),
        )
        yield from ()  # it is there already
        return BackupState(
            staged=staged,
            position=Position(timeline=copy.timeline, commit=copy.commit, settled=copy.commit),
            checked=str(self.database.check),
            examine=staging.enter_context(examining(staged, self.database, monotonic=self.site.clock.monotonic)).result,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedCommits:
    """The commits since the parent, whose page digests are in `parent_digests`; exactly the state after the last of them."""

    replay: Replay
    parent_digests: Path
    database: DatabaseConfig
    repository: Repository

    @property
    def note(self) -> str:
        return f"commits up to {self.replay.commit.number} as they were captured: the source is not read"

    def stage(self, scratch: Path, staging: ExitStack) -> Generator[Progress, None, BackupState]:
        """Write the pages that changed, and the digests of all. Raises ObjectMissing, IntegrityError, StorageError."""
        commit, timeline = self.replay.commit, self.replay.timeline
        work, target = scratch / "captured", scratch / "captured.db"
        work.mkdir(mode=0o700)
        shutil.copyfile(self.parent_digests, work / EXPECTED)
        with target.open("xb"):
            target.chmod(0o600)
        if self.replay.pieces:
            yield from replay(self.replay, target, work, repository=self.repository)
        staged = Staged(
            path=target,
            page_size=timeline.page_size,
            n_pages=commit.n_pages,
            taken_at=_instant(commit.observed_us),
            journal_mode="wal",
            sqlite_version=apsw.sqlite_lib_version(),
            damaged=(),
            digests=work / EXPECTED,
        )
        return BackupState(
            staged=staged,
            position=Position(timeline=timeline.id, commit=commit.number, settled=commit.number),
            checked="none",
            examine=partial(count_live_rows, self.database),
        )


def find_captured_state(
    request: BackupRequest, parent: ParentChoice, *, repository: Repository, site: HostContext
) -> CapturedCopy | CapturedCommits | NotCaptured:
    """Find the newest state that capture has read; where the database has to be read instead, say why."""
    until = look_at_capture(request.database, repository.name, site=site)
    if isinstance(until, NotCaptured):
        return until
    copy = _waiting_copy(until, request.database, site=site)
    if copy is not None:
        return CapturedCopy(copy=copy, database=request.database, site=site)
    prepared = _commits_since(parent, until, request, repository=repository, site=site)
    if isinstance(prepared, NotCaptured):
        return prepared
    assert parent.parent_digests is not None  # there is a parent
    return CapturedCommits(
        replay=prepared, parent_digests=parent.parent_digests, database=request.database, repository=repository
    )


def count_live_rows(database: DatabaseConfig) -> Examined:
    """Count the rows of the database as it is now, a little later than the state: enough to notice when many are gone.

    There is no whole copy to be checked; a restore checks what was not.
    """
    try:
        rows = live.row_counts(database.path) if database.count_rows else ()
    except SourceError:
        rows = ()
    return Examined(problems=(), schema_digest="", row_counts=rows, costs=())


def _waiting_copy(until: CapturedUntil, database: DatabaseConfig, *, site: HostContext) -> base_copy.Base | None:
    """Return the copy that the timeline, or what follows its last hole, begins with, while no backup is of it."""
    directory = site.state_dir / CAPTURE / database.name
    copy, reached = base_copy.read_base(directory), progress.load(directory)
    if copy is None or reached is None or copy.timeline != until.timeline or copy.commit != reached.base_after:
        return None
    return copy


def _commits_since(
    chosen: ParentChoice, until: CapturedUntil, request: BackupRequest, *, repository: Repository, site: HostContext
) -> Replay | NotCaptured:
    """Prepare the replay of all commits after the parent that are in the storage, with all committed before this call."""
    parent, reached = chosen.choice.parent, progress.load(site.state_dir / CAPTURE / request.database.name)
    if request.strategy is Strategy.FULL or parent is None:
        return NotCaptured(reason="a full stores every page")
    if parent.position is None or parent.position.timeline != until.timeline:
        return NotCaptured(reason=f"{parent.id} does not stand on timeline {until.timeline}")
    if reached is None or reached.timeline.page_size != chosen.page_size:
        return NotCaptured(reason=f"what is captured is not known to have pages of {chosen.page_size} bytes")
    status = _durable(until, request.database, site=site)
    if isinstance(status, NotCaptured):
        return status
    if status.durable_commit < parent.position.settled:
        return NotCaptured(
            reason=f"the storage has commits up to {status.durable_commit} only, {parent.id} may hold later ones"
        )
    wanted = CommitRef(timeline=until.timeline, number=status.durable_commit)
    try:
        return prepare_replay(wanted, parent, repository=repository, backups=(parent,))
    except (BackupNotFound, IntegrityError, ObjectMissing) as err:
        # A hole since, or segments that are gone: reading the database needs none of them.
        return NotCaptured(reason=f"the commits since {parent.id} are not all to be had: {err.message}")


def _durable(until: CapturedUntil, database: DatabaseConfig, *, site: HostContext) -> CaptureStatus | NotCaptured:
    """Wait until all that was committed before this call is in the storage."""
    status = settled(until.timeline, database, site=site)
    for _ in range(N_LOOKS):
        if isinstance(status, NotCaptured) or status.durable_commit >= status.commit:
            return status
        site.pause(0)
        status = settled(until.timeline, database, site=site)
    return NotCaptured(reason="the newest commits did not reach the storage in time")


def _instant(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)
