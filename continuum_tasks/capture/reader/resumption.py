"""Resume a capture under its first pin: what is there, what that is to where it stopped, and the state to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from continuum_tasks.capture.pins.base_copy import Base, BaseCopy
from continuum_tasks.capture.plan.continuity import Found, Judgement, judge_continuity
from continuum_tasks.capture.reader import wal_files
from continuum_tasks.capture.reader.sealing import Beginning, new_standing
from continuum_tasks.capture.reader.sighting import Sightings
from continuum_tasks.capture.reader.wal_files import CaptureFiles
from continuum_tasks.capture.shipping import ended_timelines
from continuum_tasks.capture.state import restored
from continuum_tasks.capture.state.environment import CaptureContext
from continuum_tasks.capture.state.progress import CaptureProgress
from continuum_tasks.errors import SourceBusy
from continuum_tasks.model import Commit, Mark
from continuum_tasks.wal.format import Checksum, IndexHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumedState:
    """A state under the pin that capture goes on from: as a commit, its page 1, and where the log stands behind it."""

    commit: Commit
    page: bytes
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What it takes to resume the capture of one database. It keeps nothing itself, but a copy may be begun in `base`."""

    database: str
    storage: str
    directory: Path
    source: CaptureFiles
    sightings: Sightings
    base: BaseCopy
    place: CaptureContext

    def judge(self, index: IndexHeader, stopped: CaptureProgress | None) -> tuple[Found, Judgement]:
        """Find what is there, and compare it with where capture stopped; another storage begins a timeline there."""
        found = self._found(index, stopped)
        is_known = stopped is not None and stopped.storage == self.storage
        return found, judge_continuity(stopped.stood if stopped is not None and is_known else None, found)

    def new_timeline(
        self, stopped: CaptureProgress | None, found: Found, *, reason: str, watched_until_us: int
    ) -> CaptureProgress:
        """Begin a timeline, and note that the one before ended. Raises StorageError, KeyringError."""
        if stopped is not None:
            ended_timelines.note_ended(self.directory, stopped)
        beginning = Beginning(
            database=self.database,
            storage=self.storage,
            found=found,
            reason=reason,
            previous=None if stopped is None else stopped.timeline.id,
            followed_until_us=0 if stopped is None else watched_until_us,
            is_known=stopped is not None and stopped.published and stopped.storage == self.storage,
        )
        return new_standing(beginning, place=self.place)

    def state(self, standing: CaptureProgress, *, watched_until_us: int) -> ResumedState:
        """Take the state under the pin for the next commit, and begin a copy of it. Raises SourceBusy; close `base` then."""
        page_size = standing.timeline.page_size
        held = self.base.hold(self.source.path, self._index)
        index, page = self._first_page(page_size, held)
        observed_us = max(self.place.now_us(), standing.observed_us, watched_until_us)
        since_us = observed_us if not standing.commit else max(watched_until_us, standing.observed_us)
        commit = Commit(
            number=standing.commit + 1,
            n_pages=index.n_pages if index.max_frame else self.source.path.stat().st_size // page_size,
            n_stored=1,
            first_frame=0,
            last_frame=0,
            observed_us=observed_us,
            unseen_us=observed_us - since_us,
            resumed=True,
        )
        if index is not held:
            self.base.close()
        else:
            self._copy(standing, commit, page)
        checksum = index.checksum if index.max_frame else (0, 0)
        mark = Mark(salts=index.salts.hex(), frame=index.max_frame, checksum=checksum)
        return ResumedState(commit=commit, page=page, mark=mark)

    def _copy(self, standing: CaptureProgress, commit: Commit, page: bytes) -> None:
        base = Base(
            timeline=standing.timeline.id,
            commit=commit.number,
            path=str(self.base.path),
            page_size=standing.timeline.page_size,
            n_pages=commit.n_pages,
            observed_us=commit.observed_us,
        )
        self.base.begin(base, page)

    def _found(self, index: IndexHeader, stopped: CaptureProgress | None) -> Found:
        header = wal_files.read_header(self.source)
        said: Checksum | None = None
        if stopped is not None and header is not None:
            said = wal_files.frame_checksum(self.source, header, stopped.mark.frame)
        return Found(
            salts=index.salts.hex(),
            max_frame=index.max_frame,
            page_size=index.page_size or wal_files.read_page_size(self.source),
            source=self.source.identity(),
            stamp=self.source.stamp(),
            said=said,
            behind_seconds=((0 if stopped is None else stopped.observed_us) - self.place.now_us()) / 1_000_000,
            restored_online=restored.is_noted(self.directory),
            sighting=self.sightings.last,
            unlike=self.sightings.unlike_copied(index),
        )

    def _index(self) -> IndexHeader:
        return wal_files.read_wal_index(self.source, pause=self.place.pause)

    def _first_page(self, page_size: int, held: IndexHeader | None) -> tuple[IndexHeader, bytes]:
        """Return the state to begin with, the one that is held for a copy if there is, and its page 1."""
        for _ in range(wal_files.N_LOOKS):
            index = held or self._index()
            header = wal_files.read_header(self.source) if index.max_frame else None
            try:
                page = wal_files.first_page(self.source, header, until=index.max_frame, page_size=page_size)
            except (ValueError, FileNotFoundError):
                self.place.pause()
                continue
            if self._index().salts == index.salts:  # the log was not restarted while we read it
                return index, page
            held = None
        raise SourceBusy(f"{self.source.path}: page 1 cannot be read", hint="capture tries again by itself")
