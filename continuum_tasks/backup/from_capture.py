"""Make a differential or incremental from what capture has read, instead of reading the database.

The pages of the commits since the parent, newest first, are all that changed; with the parent's page digests they give the
digests of the whole state. So the database is not touched, and what is stored is exactly the state after one commit.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import apsw

from continuum_tasks.assembly.fetch import EXPECTED
from continuum_tasks.assembly.replay import Replay, prepare_replay, replay
from continuum_tasks.backup import position
from continuum_tasks.backup.check_staged import Examined
from continuum_tasks.backup.choose_parent import BackupRequest, ParentChoice, choose_parent
from continuum_tasks.capture.pins import base_copy
from continuum_tasks.capture.state import progress
from continuum_tasks.capture.state.environment import CAPTURE
from continuum_tasks.capture.state.status import CaptureStatus
from continuum_tasks.errors import BackupNotFound, IntegrityError, ObjectMissing, SourceError
from continuum_tasks.host.site import HostContext
from continuum_tasks.model import Backup, CommitRef, Position, Progress, Strategy
from continuum_tasks.repository.repository import Repository
from continuum_tasks.sqlite import live
from continuum_tasks.sqlite.snapshot import Staged


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedState:
    """A state that was put together, or copied by capture, and where it stands; what it builds on if that is decided."""

    staged: Staged
    chosen: ParentChoice | None
    position: Position


def build_captured_state(
    request: BackupRequest, scratch: Path, *, repository: Repository, site: HostContext
) -> Generator[Progress, None, CapturedState | None]:
    """Put the newest captured state together; None where the database has to be read.

    That is: a full, no parent, one that stands on another timeline, a hole since, capture that does not run or cannot ship.
    """
    begun = position.begin(request.database, repository.name, site=site)
    begins = None if begun is None else _beginning(begun, request, site=site)
    if begins is not None:
        yield Progress(phase="stage", note=f"the state at commit {begins.position.commit}, as capture has copied it")
        return begins
    page_size = None if begun is None else _page_size(request, site=site)
    if begun is None or page_size is None or request.strategy is Strategy.FULL:
        return None
    chosen = choose_parent(request, page_size, scratch, repository=repository, site=site)
    parent = chosen.choice.parent
    if parent is None or parent.position is None or parent.position.timeline != begun.timeline:
        return None
    status = _durable(begun, request, site=site)
    if status is None or status.durable_commit < parent.position.settled:
        return None
    prepared = _prepared(CommitRef(timeline=begun.timeline, number=status.durable_commit), parent, repository=repository)
    if prepared is None:
        return None
    yield Progress(phase="stage", note=f"commits up to {prepared.commit.number} as they were captured: the source is not read")
    return (yield from _assembled(prepared, chosen, scratch, repository=repository))


def _beginning(begun: position.Begun, request: BackupRequest, *, site: HostContext) -> CapturedState | None:
    """Return the copy of the state that the timeline, or what follows its last hole, begins with, while no backup is of it."""
    directory = site.state_dir / CAPTURE / request.database.name
    found, stands = base_copy.read_base(directory), progress.load(directory)
    if found is None or stands is None or found.timeline != begun.timeline or found.commit != stands.base_after:
        return None
    staged = Staged(
        path=Path(found.path),
        page_size=found.page_size,
        n_pages=found.n_pages,
        taken_at=datetime.fromtimestamp(found.observed_us / 1_000_000, UTC),
        journal_mode="wal",
        sqlite_version=apsw.sqlite_lib_version(),
        damaged=(),
    )
    at = Position(timeline=found.timeline, commit=found.commit, settled=found.commit)
    return CapturedState(staged=staged, chosen=None, position=at)


def _page_size(request: BackupRequest, *, site: HostContext) -> int | None:
    """Return the page size (bytes) of what is captured, None when that is not known."""
    found = progress.load(site.state_dir / CAPTURE / request.database.name)
    return None if found is None else found.timeline.page_size


def examined(request: BackupRequest) -> Examined:
    """Count the rows of the database as it is now, a little later than the state: enough to notice when many are gone.

    There is no whole copy to be checked; a restore checks what was not.
    """
    try:
        rows = live.row_counts(request.database.path) if request.database.count_rows else ()
    except SourceError:
        rows = ()
    return Examined(problems=(), schema_digest="", row_counts=rows, costs=())


def _durable(begun: position.Begun, request: BackupRequest, *, site: HostContext) -> CaptureStatus | None:
    """Wait until all that was committed before this call is in the storage."""
    status = position.settled(begun.timeline, request.database, site=site)
    for _ in range(position.N_LOOKS):
        if status is None or status.durable_commit >= status.commit:
            return status
        site.pause(0)
        status = position.settled(begun.timeline, request.database, site=site)
    return None


def _prepared(wanted: CommitRef, parent: Backup, *, repository: Repository) -> Replay | None:
    try:
        return prepare_replay(wanted, parent, repository=repository, backups=(parent,))
    except (BackupNotFound, IntegrityError, ObjectMissing):
        return None  # a hole since, or segments that are gone: reading the database needs none of them


def _assembled(
    prepared: Replay, chosen: ParentChoice, scratch: Path, *, repository: Repository
) -> Generator[Progress, None, CapturedState]:
    assert chosen.parent_digests is not None
    work, target = scratch / "captured", scratch / "captured.db"
    work.mkdir(mode=0o700)
    shutil.copyfile(chosen.parent_digests, work / EXPECTED)
    with target.open("xb"):
        target.chmod(0o600)
    if prepared.pieces:
        yield from replay(prepared, target, work, repository=repository)
    commit = prepared.commit
    staged = Staged(
        path=target,
        page_size=prepared.timeline.page_size,
        n_pages=prepared.commit.n_pages,
        taken_at=datetime.fromtimestamp(commit.observed_us / 1_000_000, UTC),
        journal_mode="wal",
        sqlite_version=apsw.sqlite_lib_version(),
        damaged=(),
        digests=work / EXPECTED,
    )
    stands = Position(timeline=prepared.timeline.id, commit=commit.number, settled=commit.number)
    return CapturedState(staged=staged, chosen=chosen, position=stands)
