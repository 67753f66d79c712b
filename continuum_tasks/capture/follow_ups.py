"""What a capture has others do: the backup after a hole, compaction, backups in journal mode.

The process that captures opens no database and never waits, so it says what is to be done and looks later how that ended.
Who does it, a worker or a process started for it, is the business of the `JobRunner` that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from continuum_tasks.capture.plan.continuity import BYPASSED
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.host.job_kinds import CompactSegments, CreateBackup, JobArguments, ProveCapture
from continuum_tasks.model import Backup, Strategy

N_SEGMENTS_TO_MERGE = 120  # two minutes of a busy database
PAUSE_SECONDS = 15.0  # between two tries of what failed


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How a job ended: with the backup it made or whether the live database is as captured, or with an error's message."""

    backup: Backup | None = None
    is_same: bool | None = None
    error: str = ""


class JobRunner(Protocol):
    """Has one job at a time done, without waiting for it."""

    @property
    def busy(self) -> bool:
        """True while a job is under way."""

    def start(self, work: JobArguments, *, force: bool) -> None:
        """Have this done; without `force` a backup is declined where one was made just now."""

    def ended(self) -> JobEnd | None:
        """Return how the job ended once it has, and only once; None until then."""

    def close(self) -> None:
        """End what still runs."""


class FollowUps:
    """The jobs that one database needs, one at a time; after a failure there is a pause. `trouble` is the last failure."""

    def __init__(self, database: str, storage: str, runner: JobRunner, *, monotonic: Callable[[], float]) -> None:
        self.trouble = ""
        self._database = database
        self._storage = storage
        self._runner = runner
        self._monotonic = monotonic
        self._not_before = 0.0
        self._merged_at = 0
        self._what = ""

    @property
    def busy(self) -> bool:
        """True while a job is under way, or for a while after one failed."""
        return self._runner.busy or self._monotonic() < self._not_before

    def base(self, found: CaptureProgress) -> bool:
        """Have a backup made if none stands behind the last resumed commit yet; True once one does."""
        if not found.base_after:
            return False
        end = self._ended()
        if end is None:
            if not self.busy and found.published:
                is_doubted = found.timeline.reason.startswith(BYPASSED) and found.base_after == 1
                strategy = Strategy.FULL if is_doubted else Strategy.INCREMENTAL
                self._back_up(found.storage, strategy, force=True)  # the hole is now, whenever the last backup was made
            return False
        if end.error:
            return False
        stands = _stands_behind(end.backup, found)
        if not stands:
            self._pause()
        return stands

    def proof(self) -> bool | None:
        """Have the state that waits compared with what was captured; True when it is the same, False when it is not."""
        end = self._ended()
        if end is None:
            if not self.busy:
                self._start("proof", ProveCapture(database=self._database, storage=self._storage), force=False)
            return None
        return end.is_same  # None of another job, which ended meanwhile

    def backup(self) -> None:
        """Have a backup of a rollback-journal database made."""
        self._ended()
        if not self.busy:
            self._back_up(self._storage, Strategy.INCREMENTAL, force=False)

    def compaction(self, n_segments: int) -> None:
        """Have segments merged once enough were shipped, `n_segments` since this process began."""
        self._ended()
        if not self.busy and n_segments - self._merged_at >= N_SEGMENTS_TO_MERGE:
            self._merged_at = n_segments
            self._start("compaction", CompactSegments(database=self._database, storage=self._storage), force=False)

    def close(self) -> None:
        """End what still runs."""
        self._runner.close()

    def _back_up(self, storage: str, strategy: Strategy, *, force: bool) -> None:
        work = CreateBackup(database=self._database, strategy=strategy, storage=storage)
        self._start("backup", work, force=force)

    def _start(self, what: str, work: JobArguments, *, force: bool) -> None:
        self._what = what
        self._runner.start(work, force=force)

    def _ended(self) -> JobEnd | None:
        end = self._runner.ended()
        if end is not None:
            self.trouble = f"the {self._what} it needs failed: {end.error}" if end.error else ""
            if end.error:
                self._pause()
        return end

    def _pause(self) -> None:
        self._not_before = self._monotonic() + PAUSE_SECONDS


def _stands_behind(backup: Backup | None, found: CaptureProgress) -> bool:
    """Tell whether this backup serves restores from the resumed commit on."""
    if backup is None or backup.position is None:
        return False
    return backup.position.timeline == found.timeline.id and backup.position.commit >= found.base_after
